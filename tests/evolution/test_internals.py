import json
import math

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.evolution import internals
from circuits.evolution.attention import divergence, entropy, over_positions
from circuits.models import HookedModel

LENGTHS = [9, 4, 12, 7, 12, 5, 8, 10, 6]


@pytest.fixture(scope="module")
def pairs(random_pairs):
    return random_pairs(n=len(LENGTHS), lengths=LENGTHS)


@pytest.fixture(scope="module")
def edited(model_folder, tmp_path_factory):
    """name -> a copy with head 2 of layer 1 edited by hand (its queries turned)."""
    import transformers

    def edit(name):
        model = transformers.AutoModelForCausalLM.from_pretrained(model_folder(name))
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            if name == "gpt2":
                weight = model.transformer.h[1].attn.c_attn.weight  # (d_model, 3 d_model)
                weight[:, 16:24] = 0.5 * torch.randn(32, 8, generator=draw)
            else:
                weight = model.model.layers[1].self_attn.q_proj.weight  # (d_model, d_model)
                weight[16:24] = 0.5 * torch.randn(8, 32, generator=draw)
        folder = tmp_path_factory.mktemp("edited") / name
        model.save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(model_folder(name)).save_pretrained(folder)
        return HookedModel.from_pretrained(folder, device="cpu")

    return edit


def slow(model, against, pair):
    """One document alone, so without padding, in plain loops."""
    tokens = torch.tensor([[*pair.clean, *pair.forced]])
    runs = []
    for each in (model, against):
        hidden, patterns = {}, {}
        hooks = [f"blocks.{layer}.{end}" for layer in range(3) for end in ("hook_in", "hook_out")]

        def keep(value, hook, hidden=hidden, patterns=patterns):
            (patterns if "pattern" in hook.name else hidden)[hook.name] = value[0].double()

        names = hooks + [f"blocks.{layer}.attn.hook_pattern" for layer in range(3)]
        with torch.no_grad():
            each.bridge.run_with_hooks(tokens, fwd_hooks=[(name, keep) for name in names])
        runs.append((hidden, patterns))
    (hidden, patterns), (other_hidden, other_patterns) = runs
    length, heads = tokens.shape[1], 4
    kl, high = torch.zeros(2, 3, heads, dtype=torch.float64)
    cosine, stream, update, activation = torch.zeros(4, 3, dtype=torch.float64)
    for layer in range(3):
        p, q = (run[f"blocks.{layer}.attn.hook_pattern"] for run in (patterns, other_patterns))
        for head in range(heads):
            for query in range(length):
                for key in range(query + 1):
                    a, b = float(p[head, query, key]), float(q[head, query, key])
                    kl[layer, head] += a * math.log(a / b) / length
                    high[layer, head] -= a * math.log(a) / length
        x, y = (run[f"blocks.{layer}.hook_out"] for run in (hidden, other_hidden))
        start, other_start = (run[f"blocks.{layer}.hook_in"] for run in (hidden, other_hidden))
        for at in range(length):
            u, v = x[at], y[at]
            cosine[layer] += (u @ v) / (u.norm() * v.norm()) / length
            stream[layer] += (u - v).norm() / v.norm() / length
            du, dv = u - start[at], v - other_start[at]
            update[layer] += (du - dv).norm() / dv.norm() / length
            activation[layer] += u.abs().mean() / length
    return {
        "kl": kl,
        "entropy": high,
        "cosine": cosine,
        "stream_change": stream,
        "update_change": update,
        "activation": activation,
    }


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_every_document_matches_a_slow_run_without_padding(name, hooked, edited, pairs):
    model, base = edited(name), hooked(name)
    found = internals(model, base, pairs, batch_size=4, n_bootstrap=50)
    for row in (0, 1, 2):
        for key, expected in slow(model, base, pairs[row]).items():
            assert expected.abs().max() > 0
            value = getattr(found, key)[row]
            assert torch.allclose(value, expected, rtol=1e-3, atol=1e-5), (key, row)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_head_edited_by_hand_is_found_first(name, hooked, edited, pairs):
    found = internals(edited(name), hooked(name), pairs, n_bootstrap=50)
    assert found.heads_by_kl[0][0] == "a1.h2"
    assert float(found.kl[:, 0].max()) == 0.0
    importance = found.layer_importance("attention-kl")
    assert importance[0] == 0.0 and max(importance) == importance[1]
    assert found.layer_importance("entropy")[0] == 0.0
    changes = found.layer_importance("hidden-state")
    assert changes[0] == 0.0 and changes[1] > 0 and changes[2] > 0
    assert "moved most at a1.h2" in found.paragraph()
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record["heads_by_kl"][0]["head"] == "a1.h2"
    low, value, high = (record["kl"][end][1][2] for end in ("low", "value", "high"))
    assert 0 < low < value < high
    assert record["importance"]["attention-kl"] == importance


def test_batches_leave_no_trace(hooked, edited, pairs):
    model, base = edited("gpt2"), hooked("gpt2")
    one, many = (internals(model, base, pairs, batch_size=size) for size in (1, 5))
    for key in ("kl", "entropy", "entropy_against", "cosine", "activation", "update_change"):
        assert torch.allclose(getattr(one, key), getattr(many, key), rtol=1e-4, atol=1e-6), key


def test_a_model_against_itself(hooked, pairs):
    found = internals(hooked("gpt2"), hooked("gpt2"), pairs, n_bootstrap=50)
    assert found.identical
    assert "no change" in found.paragraph()
    assert float(found.kl.abs().max()) == 0.0
    assert found.layer_importance("hidden-state") == [0.0, 0.0, 0.0]
    record = found.to_dict()
    assert record["falling_heads"]["value"] == 0.0
    json.dumps(record, allow_nan=False)


def test_the_share_of_falling_heads(hooked, edited, pairs):
    found = internals(edited("gpt2"), hooked("gpt2"), pairs, n_bootstrap=50)
    change = (found.entropy - found.entropy_against).mean(dim=0)
    share = found.falling_heads()
    assert float(share.value) == pytest.approx(float((change < 0).sum()) / 12)
    assert 0 <= float(share.low) <= float(share.high) <= 1


def test_refusals(hooked, tmp_path, pairs):
    import transformers

    config = transformers.GPT2Config.from_pretrained(hooked("gpt2").name, n_layer=2)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    small = HookedModel.from_pretrained(tmp_path, device="cpu")
    with pytest.raises(CircuitsError, match=r"3 layers.*and 2 layers"):
        internals(hooked("gpt2"), small, pairs)


def test_masked_keys_add_nothing():
    p = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    q = torch.tensor([[0.25, 0.75, 0.0, 0.0]])
    assert float(entropy(p)) == pytest.approx(math.log(2))
    assert float(divergence(p, q)) == pytest.approx(
        0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    )
    assert float(divergence(p, p)) == 0.0
    one = torch.tensor([[1.0, 0.0]])
    assert float(entropy(one)) == 0.0
    assert math.isfinite(float(divergence(one.flip(-1), one)))


def test_padding_never_counts():
    values = torch.tensor([[[1.0, 2.0, 99.0]], [[4.0, math.nan, math.inf]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert over_positions(values, mask).flatten().tolist() == [1.5, 4.0]
