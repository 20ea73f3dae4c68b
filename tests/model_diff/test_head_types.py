import json

import pytest
import torch
from model_diff import inside

from circuits.model_diff import diff_models
from circuits.model_diff.head_types import THRESHOLD, HeadType, HeadTypeKeys, RoleMasses
from circuits.models import HookedModel
from tasks.pairs import PairSet, PromptPair

LENGTHS = [9, 4, 12, 7, 5]
LANDMARKS = {"middle": [[0, 4, 6], [2], [], [3], [1, 2]]}


def pair(tokens, answers):
    corrupted = [*tokens[:-1], tokens[-1] + 1]
    return PromptPair(tuple(tokens), tuple(corrupted), tuple(tuple(a) for a in answers))


@pytest.fixture(scope="module")
def pairs():
    """Answers of one and of several positions; some stand in the text, some do not."""
    draw = torch.Generator().manual_seed(0)
    texts = [torch.randint(1, 399, (size,), generator=draw).tolist() for size in LENGTHS]
    answers = [
        [[texts[0][3], texts[0][5]]],  # either of two tokens of the text
        [[texts[1][1]], [7], [texts[1][2]]],  # the last read sees both fed tokens
        [[399]],  # nowhere
        [[texts[3][2]]],
        [[texts[4][4]], [texts[4][4]]],
    ]
    return PairSet(tuple(pair(text, answer) for text, answer in zip(texts, answers, strict=True)))


def slow_masses(run, one, marks):
    """Every role of one document by loops; None where it has no query."""
    text = [*one.clean, *one.teacher_forced]
    later = range(1, len(text))
    found = {
        "previous-token": inside.role_mass(run, later, lambda i: [i - 1]),
        "self": inside.role_mass(run, later, lambda i: [i]),
        "first-token": inside.role_mass(run, later, lambda i: [0]),
        "middle": None,
        "answer": None,
    }
    queries = [i for i in later if any(mark <= i for mark in marks)]
    if queries:
        found["middle"] = inside.role_mass(
            run, queries, lambda i: [mark for mark in marks if mark <= i]
        )
    seen = {}
    for step, right in enumerate(one.answer):
        at = len(one.clean) - 1 + step
        seen[at] = [key for key in range(at + 1) if text[key] in right]
    queries = [at for at, keys in seen.items() if keys]
    if queries:
        found["answer"] = inside.role_mass(run, queries, lambda i: seen[i])
    return found


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_masses_match_loops_over_the_eager_patterns(name, hooked, pairs):
    model = hooked(name)
    found = diff_models(model, model, pairs, key_positions=LANDMARKS, batch_size=3, n_resamples=50)
    rows = dict.fromkeys(found.roles, 0)
    for one, marks in zip(pairs, LANDMARKS["middle"], strict=True):
        run = inside.run(model.name, [*one.clean, *one.teacher_forced])
        for role, expected in slow_masses(run, one, marks).items():
            if expected is None:
                continue
            assert expected.max() > 0
            row = rows[role]
            assert torch.allclose(
                found.roles[role].mass[row].double(), expected, rtol=1e-4, atol=1e-6
            ), role
            rows[role] += 1
    assert {role: rows[role] for role in ("self", "middle", "answer")} == {
        "self": 5,
        "middle": 4,
        "answer": 4,
    }
    assert all(len(found.roles[role]) == count for role, count in rows.items() if count)


@pytest.mark.parametrize("end", [0, [0, 7, 8]])
def test_induction_on_random_tokens_matches_loops(end, hooked, pairs, monkeypatch):
    model = hooked("llama")
    monkeypatch.setattr(model.hf.config, "eos_token_id", end)  # several in Llama 3 Instruct
    found = diff_models(model, model, pairs, n_resamples=50).roles
    assert found["induction"].unit == "random sequences" and len(found["induction"]) == 20
    assert found["induction"].mass.shape == (20, 3, 4)
    draw = torch.Generator().manual_seed(0)
    special = (0, 7, 8) if isinstance(end, list) else (0,)  # 0 begins and ends texts
    usual = torch.tensor([token for token in range(400) if token not in special])
    first = usual[torch.randperm(len(usual), generator=draw)[:25]].tolist()
    run = inside.run(model.name, first * 2)
    second = range(25, 50)
    for role, back in (("induction", 24), ("duplicate-token", 25)):
        expected = inside.role_mass(run, second, lambda i, back=back: [i - back])
        assert expected.max() > 1e-3
        assert torch.allclose(found[role].mass[0].double(), expected, rtol=1e-4, atol=1e-6)


def test_uniform_attention_has_the_mass_of_chance(pairs):
    """A model that looks at all earlier tokens alike: mass = chance, for every role."""
    keys = HeadTypeKeys.of_text(pairs.batch(list(range(len(pairs)))), LANDMARKS)
    length = keys.weights.shape[-1]
    p = torch.ones(length, length).tril() / torch.arange(1, length + 1)[:, None]
    mass = keys.mass(p.expand(len(pairs), 2, length, length), slice(0, length))
    expected = torch.where(keys.defined, keys.chance, 0.0)
    assert float(expected.max()) > 0.1
    assert torch.allclose(mass[:, 0], expected, atol=1e-6)
    parts = [
        keys.mass(p[rows].expand(len(pairs), 2, -1, length), rows)
        for rows in (slice(0, 5), slice(5, 6), slice(6, length))
    ]
    assert torch.allclose(sum(parts), mass, atol=1e-6)


def test_a_head_built_for_a_role_has_it_and_one_that_lost_it_is_named(hooked, model_folder, pairs):
    """Head 1 of layer 0 made to look at the position before, by its position embeddings."""
    import transformers

    base = transformers.AutoModelForCausalLM.from_pretrained(model_folder("gpt2"))
    made = transformers.AutoModelForCausalLM.from_pretrained(model_folder("gpt2"))
    with torch.no_grad():
        for model in (base, made):
            wpe = torch.zeros(64, 32)
            wpe[torch.arange(32), torch.arange(32)] = 40.0  # position i is a basis vector
            model.transformer.wpe.weight.copy_(wpe)
            model.transformer.h[0].ln_1.weight.fill_(1.0)
            model.transformer.h[0].ln_1.bias.zero_()
        attention = made.transformer.h[0].attn.c_attn
        draw = torch.Generator().manual_seed(1)
        code = torch.randn(33, 8, generator=draw)
        attention.weight[:, 8:16] = 3 * code[:32]  # query of position i
        attention.weight[:, 40:48] = 3 * code[1:33]  # key of position i is the query of i + 1
        attention.bias[8:16] = 0.0
        attention.bias[40:48] = 0.0
    one, other = HookedModel(made, None, "made"), HookedModel(base, None, "base")
    found = diff_models(one, other, pairs, n_resamples=200).roles["previous-token"]
    assert float(found.model.value[0, 1]) > 0.9
    assert found.heads[0] == "a0.h1" and "a0.h1" not in found.heads_base
    assert "a0.h1" in found.gained and found.lost == ()
    back = diff_models(other, one, pairs, n_resamples=200)
    assert "a0.h1" in back.roles["previous-token"].lost
    assert "a0.h1" in back.paragraph() and "lost the previous-token role" in back.paragraph()
    record = json.loads(json.dumps(back.to_dict(), allow_nan=False))["roles"]["previous-token"]
    assert record["heads_base"][0] == "a0.h1" and record["threshold"] == THRESHOLD


def test_a_role_needs_its_whole_interval_above_the_threshold():
    draw = torch.Generator().manual_seed(0)
    sure = 0.1 + THRESHOLD + 0.05 + 0.01 * torch.randn(12, generator=draw)
    unsure = 0.1 + THRESHOLD + 0.05 + 0.5 * torch.randn(12, generator=draw)
    mass = torch.stack([sure, unsure], dim=1)[:, None]
    role = HeadType("self", mass, mass, torch.full((12,), 0.1), n_resamples=500)
    assert float(role.model.value[0, 1]) > 0.1 + THRESHOLD
    assert role.heads == ("a0.h0",)
    by_chance = HeadType("self", mass, mass, torch.full((12,), 0.2), n_resamples=500)
    assert by_chance.heads == ()


def test_roles_of_fewer_than_two_documents_are_left_out(pairs):
    batch = pairs.batch([0, 1])
    keys = HeadTypeKeys.of_text(batch, {"middle": [[], [2]]})
    masses = RoleMasses(2)
    mass = torch.rand(2, 3, 4, len(keys.names))
    masses.add(keys, batch.index, mass, mass)
    found = masses.roles(n_resamples=50, seed=0)
    assert "middle" not in found and len(found["self"]) == 2
