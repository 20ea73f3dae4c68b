#!/usr/bin/env bash
# peft x PVeRA x activation checkpointing: a seed for the noise makes the gradients wrong, and the variance
# that is to be learned is not.
#
# Versions: peft 0.21.2, transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: PVeRA draws z = mu + noise * sigma in training. Checkpointing runs a layer a second time for the
# backward pass, and gives torch's global generator its old state back for that, so that dropout and the
# like repeat. With `PveraConfig(generator_seed=...)` each layer has a generator of its own, which nobody
# sets back: the second run draws the next noise. The gradient from above belongs to one draw, the layer's own
# part to another. The loss is the same to the last bit, shapes agree, no warning is given, and both
# kinds of checkpointing do it. Without a seed all is right.
# Noise that is independent of the gradient from above says nothing about sigma: on average its gradient
# is zero, whatever it should be.
# Seen: a random Llama: with and without checkpointing the gradients are equal without a seed; with one
# they differ by 1.22 of their length, cosine 0.37, at equal losses. One layer, the loss |y|^2, 20,000
# draws: what the log-variances get, by calculation 1.000, is 0.993 without checkpointing and 0.003
# with it. The last line is "the variance is not learned".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    peft==0.21.2 transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import peft
import torch
import transformers
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
tokens = torch.randint(0, 64, (4, 16), generator=torch.Generator().manual_seed(2))


def llama(seed):
    torch.manual_seed(0)
    base = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            use_cache=False,
        )
    )
    settings = {"r": 16, "target_modules": ["q_proj", "v_proj"], "generator_seed": seed}
    model = peft.get_peft_model(base, peft.PveraConfig(task_type="CAUSAL_LM", **settings)).train()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "lambda_b" in name or (values.ndim > 1 and not values.requires_grad):
                values.copy_(torch.randn(values.shape, generator=draw) / values.shape[-1] ** 0.25)
    return base, model


def rewind(model):
    """Every source of noise at its beginning."""
    torch.manual_seed(3)
    for number, module in enumerate(model.modules()):
        own = getattr(module, "pvera_generator", {}).get("default")
        if own is not None:
            own.manual_seed(number)


def gradient(model):
    rewind(model)
    model.zero_grad()
    loss = model(tokens, labels=tokens).loss
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


for seed in (None, 7):
    base, model = llama(seed)
    plain_loss, plain = gradient(model)
    base.activation_checkpointing_enable({"use_reentrant": False})
    loss, saved = gradient(model)
    apart = float((saved - plain).norm() / plain.norm())
    cosine = float(torch.cosine_similarity(saved, plain, dim=0))
    print(f"seed {seed}: losses {plain_loss:.6f}, {loss:.6f}; gradients {apart:.2f} apart, cosine {cosine:.2f}")
    assert loss == plain_loss and (apart < 1e-6 if seed is None else apart > 0.3)

# One layer that is zero but for the adapter, one input, many draws: y = B (noise * sigma), and the mean
# of |y|^2 is the sum of sigma_k^2 |B_k|^2 over B's columns, which is also its derivative by the
# log-variances, summed. B is scaled so that this is 1.
DRAWS, WIDTH, RANK = 20_000, 16, 8


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        torch.nn.init.zeros_(self.linear.weight)

    def forward(self, x, saving):
        return checkpoint(self.linear, x, use_reentrant=False) if saving else self.linear(x)


torch.manual_seed(0)
settings = {"r": RANK, "target_modules": ["linear"], "generator_seed": 7}
model = peft.get_peft_model(Layer(), peft.PveraConfig(**settings)).train()
adapter = model.base_model.model.linear
x = torch.randn(1, WIDTH).expand(DRAWS, WIDTH)
inner, outer = adapter.pvera_lambda_d["default"], adapter.pvera_lambda_b["default"]
with torch.no_grad():
    inner.zero_()  # mu 0 and sigma 1, whatever x is
    outer.fill_(1.0).div_(adapter.pvera_B["default"].norm())
    by_entry = (adapter.pvera_A["default"] @ x[0])[RANK:]  # of a log-variance, by its entry of `inner`
total = {}
for saving in (False, True):
    rewind(model)
    model.zero_grad()
    model(x, saving).square().sum(1).mean().backward()
    total[saving] = float((inner.grad[RANK:] / by_entry).sum())
print(f"what the log-variances get: {total[False]:.3f}, with checkpointing {total[True]:.3f}, exactly 1.000")
assert abs(total[False] - 1) < 0.05 and abs(total[True]) < 0.05
print("the variance is not learned")
PY
"$work/venv/bin/python" -W ignore "$work/try.py"
