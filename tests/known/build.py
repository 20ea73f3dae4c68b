"""Models whose circuit is known because their weights were written by hand.

The residual stream is cut into slots of one-hot codes. Everything that a node writes has the norm
of one code, whatever the prompt says, so the norms' scales are constants and stay so when a node's
output is replaced by another prompt's. Beside the circuit stand heads and an MLP that compute
something from the prompt and write it where nothing reads: they are active and irrelevant.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import transformers

from circuits.models import HookedModel
from tasks.pairs import PairSet, PromptPair

SHARP = 12.0  # difference in attention logits between what a head looks for and all else
LOUD = 10.0  # logit of the token that the output slot names


@dataclass(frozen=True)
class Known:
    """A model, the edges that carry its task, and pairs to see it on."""

    model: HookedModel
    edges: frozenset[str]
    pairs: PairSet


class Slots:
    """Named runs of codes. `codes[name][i]` is a unit vector; codes of all slots are orthogonal.

    With `paired`, code i is (e_i - e_j) / sqrt 2: centring, as LayerNorm does, changes nothing.
    """

    def __init__(self, sizes: dict[str, int], d_model: int, *, paired: bool) -> None:
        total = sum(sizes.values())
        assert total * (2 if paired else 1) <= d_model, (total, d_model)
        basis = torch.eye(total, d_model)
        if paired:
            basis = (basis - basis.roll(total, dims=1)) / 2**0.5
        self.codes = dict(zip(sizes, basis.split(list(sizes.values())), strict=True))

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.codes[name]


# -- induction: a GPT-2 without MLPs

TOKENS, LENGTH = 12, 10
D_MODEL, HEADS = 160, 4
D_HEAD = D_MODEL // HEADS


def induction(n: int, seed: int, spare: str | None = None) -> Known:
    """ "... A B ... A" is followed by B.

    spare: "twin" gives both heads a twin, a0.h1 and a1.h0, which do the same beside them and share
    no edge with them. "backup" puts a2.h0 above a1.h1, which does the same where `out` is empty;
    else it looks at the first place, whose token it copies, and that is never an answer.

    a0.h0 attends to the token before and writes it into the slot `prev`; a1.h1 looks from the last
    token for where it stands in `prev`, and copies the token found there into `out`, which is all
    that the unembedding reads. Positions are the same in both prompts, so a0.h0's q and k carry
    nothing.
    """
    slots = Slots(
        {"token": TOKENS, "place": LENGTH, "prev": TOKENS, "out": TOKENS, "idle": 2 * TOKENS},
        D_MODEL,
        paired=True,
    )
    first, second = slots["idle"].split(TOKENS)
    config = transformers.GPT2Config(
        vocab_size=TOKENS, n_positions=LENGTH, n_embd=D_MODEL,
        n_layer=3 if spare == "backup" else 2, n_head=HEADS,
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=0, layer_norm_epsilon=1e-8,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
        body = model.transformer
        body.wte.weight.copy_(slots["token"])
        body.wpe.weight.copy_(slots["place"])
        token, place, before = slots["token"], slots["place"], _before(slots["place"])
        _gpt2_head(model, 0, 0, place, before, token, slots["prev"])
        _gpt2_head(model, 0, 2, place, place, token, first)
        _gpt2_head(model, 0, 3, token, token.roll(1, 0), token, 0.2 * first)
        _gpt2_head(model, 1, 1, token, slots["prev"], token, slots["out"])
        if spare == "twin":
            _gpt2_head(model, 0, 1, place, before, token, second)
            _gpt2_head(model, 1, 0, token, second, token, slots["out"])
        else:
            _gpt2_head(model, 1, 3, place, before, slots["prev"], second)
        if spare == "backup":
            filled = 2 * slots["out"].sum(dim=0, keepdim=True)
            query, key = torch.cat([token, filled]), torch.cat([slots["prev"], place[:1]])
            _gpt2_head(model, 2, 0, query, key, token, slots["out"])
        # Codes in the stream: 2 at first, 4 after layer 0, 6 after layer 1.
        norms = [*(block.ln_1 for block in body.h), body.ln_f]
        for norm, codes in zip(norms, (2, 4, 6, 6), strict=False):
            norm.weight.fill_((codes / D_MODEL) ** 0.5)
        model.lm_head.weight.copy_(LOUD * slots["out"])
    draw = random.Random(f"induction {seed}")
    pairs = PairSet(
        tuple(_repeat(draw, row) for row in range(n)), task="induction", metric="logit-difference"
    )
    edges = {
        "input->a0.h0<v>", "a0.h0->a1.h1<k>", "input->a1.h1<q>", "input->a1.h1<v>",
        "a1.h1->logits",
    }  # fmt: skip
    return Known(HookedModel(model, None, "induction"), frozenset(edges), pairs)


def _before(place: torch.Tensor) -> torch.Tensor:
    """Row p: the code of place p - 1; place 0 has none before it."""
    return torch.cat([torch.zeros_like(place[:1]), place[:-1]])


def _gpt2_head(model, layer, head, query, key, value, out) -> None:
    """Attend from code i of `query` to code i of `key`, and turn code j of `value` into `out`'s."""
    attention = model.transformer.h[layer].attn
    start = head * D_HEAD
    for part, codes in enumerate((query, key, value)):
        columns = slice(part * D_MODEL + start, part * D_MODEL + start + len(codes))
        scale = SHARP * D_HEAD**0.5 if part == 0 else 1.0
        attention.c_attn.weight[:, columns] = scale * codes.T
    attention.c_proj.weight[start : start + len(out)] = out


def _repeat(draw: random.Random, row: int) -> PromptPair:
    """ "A B" and "C D" among other tokens, all distinct, then A; so B follows.

    The corrupted prompt, after which D follows, ends with C, or has A and C exchanged, or B and D:
    the edges of q, of k and of v are each what matters in a third of the pairs.
    """
    tokens = draw.sample(range(TOKENS), LENGTH - 1)
    spots = range(LENGTH - 2)
    i, j = draw.choice([(i, j) for i in spots for j in spots if abs(i - j) > 1])
    clean = [*tokens, tokens[i]]
    corrupted = [*clean]
    if row % 3 == 0:
        corrupted[-1] = tokens[j]
    else:
        step = row % 3 - 1
        corrupted[i + step], corrupted[j + step] = tokens[j + step], tokens[i + step]
    answers = (((tokens[i + 1],),), ((tokens[j + 1],),))
    return PromptPair(tuple(clean), tuple(corrupted), *answers, source=f"induction {row}")


# -- lookup: a Llama with grouped-query attention

KINDS, EACH, FILLERS = 2, 6, 6
SUBJECTS = KINDS * EACH
VOCABULARY = 2 * SUBJECTS + KINDS + FILLERS  # subjects, their answers, one question a kind, fillers
WIDTH, FEATURES, QUERY_HEADS, KV_HEADS = 64, 16, 4, 2


def lookup(n: int, seed: int) -> Known:
    """Two subjects of two kinds among fillers, then a question for one kind: its subject's value.

    m0 looks every subject's value up in a table (a neuron a subject); a1.h2 goes from the question
    to the subject of its kind and copies the value. a1.h3 shares its keys and values, kv1, and does
    nothing that matters.
    """
    slots = Slots(
        {"name": SUBJECTS, "kind": KINDS, "asked": KINDS, "other": FILLERS + 2,
         "value": SUBJECTS, "out": SUBJECTS, "idle": 12},
        WIDTH,
        paired=False,
    )  # fmt: skip
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=SUBJECTS + 4,
        num_hidden_layers=2, num_attention_heads=QUERY_HEADS, num_key_value_heads=KV_HEADS,
        head_dim=FEATURES, max_position_embeddings=32, tie_word_embeddings=False,
        rms_norm_eps=1e-8, rope_parameters={"rope_type": "default", "rope_theta": 1e12},
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    table = random.Random("table").sample(range(SUBJECTS), SUBJECTS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        words = model.model.embed_tokens.weight
        for subject in range(SUBJECTS):
            words[subject] = slots["name"][subject] + slots["kind"][subject // EACH]
            words[SUBJECTS + subject] = slots["other"][0] + slots["other"][1]
        for kind in range(KINDS):
            words[2 * SUBJECTS + kind] = slots["asked"][kind] + slots["other"][0]
        for filler in range(FILLERS):
            words[2 * SUBJECTS + KINDS + filler] = slots["other"][1] + slots["other"][2 + filler]
        zeroth, first = model.model.layers
        # Two codes in every word; the question's place gets one more in layer 1.
        for norm in (
            zeroth.input_layernorm, zeroth.post_attention_layernorm,
            first.input_layernorm, first.post_attention_layernorm,
        ):  # fmt: skip
            norm.weight.fill_((2 / WIDTH) ** 0.5)
        model.model.norm.weight.fill_((3 / WIDTH) ** 0.5)
        # silu(20) / 20 = 1: neuron i writes value table[i] where subject i stands.
        zeroth.mlp.gate_proj.weight[:SUBJECTS] = 20 * slots["name"]
        zeroth.mlp.up_proj.weight[:SUBJECTS] = slots["name"] / 20
        zeroth.mlp.down_proj.weight[:, :SUBJECTS] = slots["value"][table].T
        _llama_head(first, 2, slots["asked"], slots["kind"], slots["value"], slots["out"])
        # Active and irrelevant: heads that mix the names that they see, and neurons.
        redundant_fraction, attention = slots["idle"], zeroth.self_attn
        seen = slots["name"].clone()
        seen[: FILLERS + 2] += slots["other"]
        for weight in (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight):
            weight[-12:] = 2 * seen
        for layer, head in ((zeroth, 0), (zeroth, 3), (first, 0), (first, 3)):
            columns = slice(head * FEATURES, head * FEATURES + 12)
            layer.self_attn.o_proj.weight[:, columns] = 0.2 * redundant_fraction.T
        for layer in (zeroth, first):
            layer.self_attn.v_proj.weight[:12] = slots["name"].roll(5, 0)
            layer.mlp.gate_proj.weight[SUBJECTS:] = slots["name"][:4]
            layer.mlp.up_proj.weight[SUBJECTS:] = slots["kind"].repeat(2, 1)
            layer.mlp.down_proj.weight[:, SUBJECTS:] = 0.2 * redundant_fraction[:4].T
        model.lm_head.weight[SUBJECTS : 2 * SUBJECTS] = LOUD * slots["out"]
    draw = random.Random(f"lookup {seed}")
    pairs = PairSet(
        tuple(_question(draw, table, row) for row in range(n)),
        task="lookup",
        metric="logit-difference",
    )
    edges = {
        "input->m0", "m0->a1.kv1<v>", "input->a1.h2<q>", "input->a1.kv1<k>", "a1.h2->logits",
    }  # fmt: skip
    return Known(HookedModel(model, None, "lookup"), frozenset(edges), pairs)


def _llama_head(layer, head, query, key, value, out) -> None:
    """As `_gpt2_head`; codes start at feature 3, where rotary positions hardly turn them."""
    kv = head // (QUERY_HEADS // KV_HEADS)
    attention, still = layer.self_attn, 3
    for weight, index, codes, scale in (
        (attention.q_proj.weight, head, query, SHARP * FEATURES**0.5),
        (attention.k_proj.weight, kv, key, 1.0),
    ):
        start = index * FEATURES + still
        weight[start : start + len(codes)] = scale * codes
    attention.v_proj.weight[kv * FEATURES : kv * FEATURES + len(value)] = value
    attention.o_proj.weight[:, head * FEATURES : head * FEATURES + len(out)] = out.T


def _question(draw: random.Random, table: list[int], row: int) -> PromptPair:
    """The corrupted prompt asks for the other kind, or has other subjects with places exchanged."""
    length = 8
    prompt = [2 * SUBJECTS + KINDS + draw.randrange(FILLERS) for _ in range(length)]
    (i, j), asked = draw.sample(range(length), 2), draw.randrange(KINDS)
    (a, other_a), (b, other_b) = (
        [kind * EACH + place for place in draw.sample(range(EACH), 2)] for kind in range(KINDS)
    )
    clean = [*prompt, 2 * SUBJECTS + asked]
    clean[i], clean[j] = a, b
    corrupted = [*clean]
    if row % 2:
        corrupted[i], corrupted[j] = other_b, other_a
        wrong = (other_a, other_b)[asked]
    else:
        corrupted[-1] = 2 * SUBJECTS + 1 - asked
        wrong = (b, a)[asked]
    right = SUBJECTS + table[(a, b)[asked]]
    return PromptPair(
        tuple(clean),
        tuple(corrupted),
        ((right,),),
        ((SUBJECTS + table[wrong],),),
        source=f"lookup {row}",
    )


KNOWN = {"induction": induction, "lookup": lookup}
