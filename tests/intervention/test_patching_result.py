"""Recovery and its intervals, the named result where there is none, files, and readouts."""

import json
import math
from dataclasses import replace

import pytest
import torch
from unknown_keys import refused

from circuits.errors import CircuitsError
from circuits.intervention.patching import Axis, Patching, PatchSpec, patch
from circuits.intervention.patching.result import UndefinedRecoveryError


def made(values, clean, corrupted, direction="denoise"):
    values = torch.tensor(values).double()
    axis = Axis("layer", tuple(range(values.shape[1])), tuple("abcdefgh"[: values.shape[1]]))
    return Patching(
        site="resid_pre",
        direction=direction,
        axes=(axis,),
        values={"m": values},
        clean={"m": torch.tensor(clean).double()},
        corrupted={"m": torch.tensor(corrupted).double()},
    )


def test_recovery_is_a_ratio_of_means():
    found = made([[1.0, 3.0], [2.0, 5.0]], clean=[3.0, 5.0], corrupted=[1.0, 0.0])
    recovery = found.recovery()
    assert recovery.value.tolist() == pytest.approx([((0 + 2) / 7), 1.0])
    assert recovery.examples.tolist() == [2, 2] and recovery.n == 2
    assert recovery.low[1] == recovery.high[1] == 1.0
    assert recovery.low[0] < recovery.value[0] < recovery.high[0]
    assert found.mean().tolist() == [1.5, 4.0]


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Forty sets of thirty examples; the true recovery is 0.3."""
    draw = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(40):
        gap = 2 + torch.randn(30, generator=draw).double()
        value = 0.3 * gap + 0.5 * torch.randn(30, generator=draw).double()
        found = made(value[:, None].tolist(), gap.tolist(), [0.0] * 30)
        recovery = found.recovery()
        covered += bool(recovery.low[0] <= 0.3 <= recovery.high[0])
        assert 0.05 < recovery.high[0] - recovery.low[0] < 0.4
    assert 34 <= covered < 40


def test_examples_without_the_site_do_not_count():
    missing = made([[1.0, 3.0], [math.nan, 4.0]], clean=[3.0, 5.0], corrupted=[0.0, 1.0])
    recovery = missing.recovery()
    assert recovery.value.tolist() == pytest.approx([1 / 3, 6 / 7])
    assert recovery.examples.tolist() == [1, 2]
    assert missing.mean()[0] == 1.0
    none = made([[math.nan, 3.0], [math.nan, 4.0]], clean=[3.0, 5.0], corrupted=[0.0, 1.0])
    recovery = none.recovery()
    assert recovery.value[0].isnan() and recovery.low[0].isnan() and recovery.high[0].isnan()
    assert none.top() == [("resid_pre, b", pytest.approx(6 / 7))]


def test_a_gap_of_nothing_is_a_named_result(tmp_path):
    found = made([[1.0], [2.0]], clean=[1.0, 3.0], corrupted=[3.0, 1.0])
    said = str(found.undefined())
    assert said.startswith("recovery is not defined: m is 2 on the clean prompts")
    with pytest.raises(UndefinedRecoveryError, match="the corruption changes nothing"):
        found.recovery()
    found.save(tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text())["recoveries"] == {"m": None}
    assert str(Patching.load(tmp_path / "p.json").undefined()) == said
    assert made([[1.0]], clean=[1.0], corrupted=[0.9]).undefined() is None


def test_a_site_whose_examples_have_no_gap_has_no_recovery(tmp_path):
    """Site a is of the first example alone, b of the first two, whose gaps cancel; c of all."""
    none = math.nan
    found = made(
        [[0.5, 0.5, 0.5], [none, 0.9, 0.9], [none, none, 2.0]],
        clean=[1.0, 0.3, 5.0],
        corrupted=[1.0 + 1e-9, 0.1 + 0.2, 1.0],
    )
    recovery = found.recovery()
    for part in (recovery.value, recovery.low, recovery.high):
        assert part.isnan().tolist() == [True, True, False]
        assert part[2].isfinite()
    assert recovery.examples.tolist() == [1, 2, 3]
    assert [site for site, _ in found.top()] == ["resid_pre, c"]
    found.save(tmp_path / "p.json")
    record = json.loads((tmp_path / "p.json").read_text())["recoveries"]["m"]
    assert record["value"][:2] == [None, None] and record["value"][2] is not None


def test_the_gap_has_an_interval_over_examples(tmp_path):
    clean = [1.0, 3.0, -2.0, 0.5]
    found = made([[0.5]] * 4, clean=clean, corrupted=[0.0] * 4)
    gap = found.gap()
    assert (gap.value, gap.n) == (0.625, 4) and gap.low < 0 < gap.high
    found.save(tmp_path / "p.json")
    record = json.loads((tmp_path / "p.json").read_text())
    assert record["gaps"]["m"]["low"] == gap.low and record["recoveries"]["m"] is not None
    few = made([[0.5]] * 4, clean=[3.44, 5.38, 5.59, 3.12], corrupted=[0.0] * 4)
    assert few.gap().excludes_zero, "four gaps that are clearly above 0"
    alone = made([[0.5]], clean=[1.0], corrupted=[0.75]).gap()
    assert alone.value == 0.25 and math.isnan(alone.low) and math.isnan(alone.high)


def test_what_matters_most_comes_first_in_both_directions():
    values = [[0.1, 0.9, 0.5]]
    assert [name for name, _ in made(values, [1.0], [0.0]).top(2)] == [
        "resid_pre, b",
        "resid_pre, c",
    ]
    found = made(values, [1.0], [0.0], direction="noise")
    assert found.top(1) == [("resid_pre, a", pytest.approx(0.1))]


def test_files_hold_everything(hooked, random_pairs, tmp_path):
    model = hooked("llama")
    pairs = random_pairs(n=3, lengths=[9, 7, 8])
    found = patch(
        model, pairs, PatchSpec("z", sweep=("layer", "head", "position")), metrics=["rank", "logit"]
    )
    found.save(tmp_path / "patching.json")
    again = Patching.load(tmp_path / "patching.json")
    assert again.axes == found.axes and again.metrics == ("rank", "logit")
    assert (again.site, again.direction, again.spec) == ("z", "denoise", found.spec)
    assert again.provenance == found.provenance and again.provenance.data.n == 3
    assert found.values["rank"].isnan().any()
    for name in found.metrics:
        for part in ("values", "clean", "corrupted"):
            here, there = getattr(found, part)[name], getattr(again, part)[name]
            assert torch.equal(here.nan_to_num(-7), there.nan_to_num(-7))
            assert here.dtype == there.dtype
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "patching.json").read_bytes()
    recovery = found.recovery()
    record = json.loads((tmp_path / "patching.json").read_text())["recoveries"]["rank"]
    assert torch.tensor(record["value"]).double() == pytest.approx(recovery.value)
    assert record["low"][0][0][0] == pytest.approx(float(recovery.low[0, 0, 0]))
    refused(Patching.load, tmp_path / "patching.json", {(): "scale", ("axes", 0): "unit"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not a result file"),
        ("{}", "kind"),
        ('{"kind": "lora-comparison", "schema_version": 1}', "lora-comparison"),
        ('{"kind": "patching", "schema_version": 0}', "schema version 0"),
        ('{"kind": "patching", "schema_version": 1, "site": "z"}', "direction: Field required"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(CircuitsError, match=rf"p\.json: .*{message}"):
        Patching.load(tmp_path / "p.json")


def test_an_unknown_metric_lists_those_there():
    with pytest.raises(CircuitsError, match="no metric 'x' in this sweep; it has m"):
        made([[1.0]], [1.0], [0.0]).mean("x")


def test_tokens_are_read_as_they_stand_in_the_logits(hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=2, answers=2)
    word = model.tokenizer(" Paris")["input_ids"][0]
    names = ["probability", "logit", "rank", "logit: Paris", "rank: Paris", f"probability:#{word}"]
    found = patch(model, pairs, PatchSpec(sweep=("layer",)), metrics=names)
    assert found.metrics == tuple(names)
    batch = pairs.batch([0, 1])
    logits = model.logits(batch.clean, batch).double()
    order = logits.argsort(dim=1, descending=True)

    def per_example(read):
        return torch.stack([read[batch.example_index == row].mean() for row in range(2)])

    for token, mine in ((None, names[:3]), (word, [names[5], names[3], names[4]])):
        tokens = batch.answer[:, 0] if token is None else torch.full((4,), token)
        reads = torch.arange(4)
        expected = (
            logits.softmax(dim=1)[reads, tokens],
            logits[reads, tokens],
            (order == tokens[:, None]).nonzero()[:, 1].double() + 1,
        )
        for name, read in zip(mine, expected, strict=True):
            assert torch.allclose(found.clean[name], per_example(read), atol=1e-5), name
            assert float(found.values[name].std()) > 0


def test_sets_of_right_tokens_are_read_together(hooked, random_pairs):
    """Probabilities add, logits average, the best rank counts."""
    model, pairs = hooked("llama"), random_pairs(n=1)
    many = replace(pairs, pairs=(replace(pairs[0], answer=((5, 9, 300),), wrong=()),))
    names = [
        f"{kind}{token}"
        for kind in ("probability", "logit", "rank")
        for token in ("", ":#5", ":#9", ":#300")
    ]
    found = patch(model, many, PatchSpec(sweep=("layer",)), metrics=names)
    value = {name: found.values[name] for name in names}
    several = {
        kind: torch.stack([value[f"{kind}:#{t}"] for t in (5, 9, 300)])
        for kind in ("probability", "logit", "rank")
    }
    assert torch.allclose(value["probability"], several["probability"].sum(dim=0), atol=1e-7)
    assert torch.allclose(value["logit"], several["logit"].mean(dim=0), atol=1e-5)
    assert torch.equal(value["rank"], several["rank"].amin(dim=0))
