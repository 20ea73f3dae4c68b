import pytest
import torch
from model_diff import eager_reading

from circuits.model_diff import diff_models
from circuits.model_diff.documents import diff_documents
from circuits.model_diff.head_types import THRESHOLD, HeadMasses, HeadTypeKeys, MassCollector
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.report.narrative_diff import summary
from tasks.pairs import PairSet, PromptPair

LENGTHS = [9, 4, 12, 7, 5]
POSITIONS = {"middle": [[0, 4, 6], [2], [], [3], [1, 2]]}


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
        [[texts[1][1]], [7], [texts[1][2]]],  # the last position sees both fed tokens
        [[399]],  # nowhere
        [[texts[3][2]]],
        [[texts[4][4]], [texts[4][4]]],
    ]
    return PairSet(tuple(pair(text, answer) for text, answer in zip(texts, answers, strict=True)))


def slow_masses(run, one, marks):
    """Every head type of one document by loops; None where it has no query."""
    text = [*one.clean, *one.teacher_forced]
    later = range(1, len(text))
    found = {
        "previous-token": eager_reading.mass_on(run, later, lambda i: [i - 1]),
        "self": eager_reading.mass_on(run, later, lambda i: [i]),
        "first-token": eager_reading.mass_on(run, later, lambda i: [0]),
        "middle": None,
        "answer": None,
    }
    queries = [i for i in later if any(mark <= i for mark in marks)]
    if queries:
        found["middle"] = eager_reading.mass_on(
            run, queries, lambda i: [mark for mark in marks if mark <= i]
        )
    seen = {}
    for step, right in enumerate(one.answer):
        at = len(one.clean) - 1 + step
        seen[at] = [key for key in range(at + 1) if text[key] in right]
    queries = [at for at, keys in seen.items() if keys]
    if queries:
        found["answer"] = eager_reading.mass_on(run, queries, lambda i: seen[i])
    return found


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_masses_match_loops_over_the_eager_patterns(name, hooked, pairs):
    model = hooked(name)
    options = RunOptions(batch_size=3)
    found = diff_documents(model, model, pairs, key_positions=POSITIONS, options=options)
    rows = dict.fromkeys(found.head_masses, 0)
    for one, marks in zip(pairs, POSITIONS["middle"], strict=True):
        run = eager_reading.run(model.name, [*one.clean, *one.teacher_forced])
        for name, expected in slow_masses(run, one, marks).items():
            if expected is None:
                continue
            assert expected.max() > 0
            mass = found.head_masses[name].model[rows[name]].double()
            assert torch.allclose(mass, expected, rtol=1e-4, atol=1e-6), name
            rows[name] += 1
    assert {name: rows[name] for name in ("self", "middle", "answer")} == {
        "self": 5,
        "middle": 4,
        "answer": 4,
    }
    assert all(len(found.head_masses[name]) == count for name, count in rows.items() if count)


@pytest.mark.parametrize("end", [0, [0, 7, 8]])
def test_induction_on_random_tokens_matches_loops(end, hooked, pairs, monkeypatch):
    model = hooked("llama")
    monkeypatch.setattr(model.hf.config, "eos_token_id", end)  # several in Llama 3 Instruct
    found = diff_documents(model, model, pairs).head_masses
    assert found["induction"].sample == "random sequences" and len(found["induction"]) == 20
    assert found["induction"].model.shape == (20, 3, 4)
    draw = torch.Generator().manual_seed(0)
    special = (0, 7, 8) if isinstance(end, list) else (0,)  # 0 begins and ends texts
    usual = torch.tensor([token for token in range(400) if token not in special])
    first = usual[torch.randperm(len(usual), generator=draw)[:25]].tolist()
    run = eager_reading.run(model.name, first * 2)
    second = range(25, 50)
    for name, back in (("induction", 24), ("duplicate-token", 25)):
        expected = eager_reading.mass_on(run, second, lambda i, back=back: [i - back])
        assert expected.max() > 1e-3
        assert torch.allclose(found[name].model[0].double(), expected, rtol=1e-4, atol=1e-6)


def test_uniform_attention_has_the_mass_of_chance(pairs):
    """A model that looks at all earlier tokens alike: mass = chance, for every type."""
    keys = HeadTypeKeys.of_text(pairs.batch(list(range(len(pairs)))), POSITIONS)
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


def test_a_head_built_for_a_type_is_of_it_and_one_that_lost_it_is_named(
    hooked, model_folder, pairs
):
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
    found = diff_models(one, other, pairs, n_resamples=200).head_type("previous-token")
    assert found.model[0, 1].value > 0.9 and found.threshold == THRESHOLD
    assert found.heads[0] == "a0.h1" and "a0.h1" not in found.heads_base
    assert "a0.h1" in found.gained and found.lost == ()
    diff = diff_models(other, one, pairs, n_resamples=200)
    back = diff.head_type("previous-token")
    assert "a0.h1" in back.lost and back.heads_base[0] == "a0.h1"
    assert "a0.h1" in summary(diff) and "lost the type previous-token" in summary(diff)


def test_a_type_needs_its_whole_interval_above_the_threshold():
    draw = torch.Generator().manual_seed(0)
    sure = 0.1 + THRESHOLD + 0.05 + 0.01 * torch.randn(12, generator=draw)
    unsure = 0.1 + THRESHOLD + 0.05 + 0.5 * torch.randn(12, generator=draw)
    mass = torch.stack([sure, unsure], dim=1)[:, None]
    found = HeadMasses(mass, mass, torch.full((12,), 0.1)).head_type("self", n_resamples=500)
    assert found.model[0, 1].value > 0.1 + THRESHOLD and found.n == 12
    assert found.heads == ("a0.h0",)
    by_chance = HeadMasses(mass, mass, torch.full((12,), 0.2)).head_type("self", n_resamples=500)
    assert by_chance.heads == ()


def test_types_of_fewer_than_two_documents_are_left_out(pairs):
    batch = pairs.batch([0, 1])
    keys = HeadTypeKeys.of_text(batch, {"middle": [[], [2]]})
    collector = MassCollector(2)
    mass = torch.rand(2, 3, 4, len(keys.names))
    collector.add(keys, batch.index, mass, mass)
    masses = collector.masses()
    assert "middle" not in masses and len(masses["self"]) == 2
