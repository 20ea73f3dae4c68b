"""Learned masks: a known circuit is found, levels, ablations, resuming, refusals."""

from dataclasses import replace

import pytest
import torch
from cli.inside import circuits as run
from known.build import induction

import circuits
from circuits.errors import CircuitsError
from circuits.evaluation import measure
from circuits.graph import Circuit, EdgeScores
from circuits.graph.provenance import TaskRecord
from circuits.inspection import inspect
from circuits.intervention.constant_file import load_constants
from circuits.masks import MaskConfig, MaskRecord, learn_mask
from circuits.masks.gate_gradient import GateGradient
from circuits.metrics import metric_for
from circuits.options.run import RunOptions
from circuits.runtime.resume import PartialResults
from tasks import load

QUICK = MaskConfig(12, epochs=6, pairs_per_step=2)


def scored(model, pairs, method="eap-ig", **rest):
    return circuits.attribute(model, pairs, method, **rest)


def test_a_known_circuit_is_found_from_random_scores():
    known = induction(24, 0)
    scores = scored(known.model, known.pairs, "random")
    assert not set(circuits.select(scores, size=5).edges) & known.edges
    config = MaskConfig(5, start=20.0, epochs=15, pairs_per_step=6, learning_rate=0.2)
    found = learn_mask(known.model, scores, known.pairs, config)
    assert set(found.circuit.edges) == known.edges
    best = circuits.select(found.scores, size=5)
    assert torch.equal(best.mask, found.circuit.mask)
    assert 0 < float(found.scores.matrix.max()) <= 1 and float(found.scores.matrix.min()) >= 0
    record = found.record
    assert record.wanted[0] > 50 and record.wanted[-1] == 5
    assert record.sizes[-1] == pytest.approx(5, abs=2)
    short = replace(config, epochs=1)
    one, other = (
        learn_mask(known.model, scores, known.pairs, short, options=RunOptions(seed=seed)).record
        for seed in range(2)
    )
    assert one.losses != other.losses


@pytest.mark.parametrize("level", ["node", "neuron"])
@pytest.mark.parametrize("name", ["gpt2", "bart"])
@pytest.mark.exhaustive_but("gpt2-neuron", "bart-node")
def test_nodes_and_neurons(name, level, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=6)
    scores = circuits.attribute_nodes(model, pairs, "eap-ig", steps=2, level=level)
    size = 9 if level == "node" else 150
    config = MaskConfig(size, objective="metric", epochs=15, pairs_per_step=6)
    found = learn_mask(model, scores, pairs, config)
    assert found.record.level == level == found.circuit.level
    assert int((found.circuit.mask & ~scores.units.roots).sum()) == size
    assert not torch.equal(found.scores.values, scores.values)
    assert not found.scores.values[scores.units.roots].any()


def test_learned_constants_are_nearer_than_means(hooked, random_pairs, tmp_path):
    """Of two pairs, which constants can be made to fit."""
    model, pairs = hooked("llama"), random_pairs(n=2)
    scores = scored(model, pairs, steps=2)
    config = MaskConfig(20, ablation="optimal", epochs=25, pairs_per_step=2, constant_rate=0.05)
    learned = learn_mask(model, scores, pairs, config)
    by_mean = learn_mask(model, scores, pairs, replace(config, ablation="mean", epochs=1))
    assert by_mean.constants is None and learned.constants.ablation == "optimal"
    *_, file = learned.save(tmp_path)
    again = load_constants(file)
    nearness = [
        measure(model, pairs, [learned.circuit], ablation=one, metric="kl-divergence").circuits
        for one in (learned.constants, again, "mean")
    ]
    assert torch.equal(nearness[0], nearness[1])
    optimal, mean = -float(nearness[0].mean()), -float(nearness[2].mean())
    assert optimal < 0.5 * mean, (optimal, mean)


class StoppedError(Exception):
    """What kills a run in the middle."""


@pytest.mark.parametrize("ablation", ["corrupted", "optimal"])
@pytest.mark.exhaustive_but("optimal")
def test_a_run_that_was_killed_ends_with_the_same_bits(
    ablation, hooked, random_pairs, tmp_path, monkeypatch
):
    model, pairs = hooked("gpt2"), random_pairs(n=4)
    scores, config = scored(model, pairs, steps=2), replace(QUICK, ablation=ablation)
    whole = learn_mask(model, scores, pairs, config)
    own, left = GateGradient.of, [7]

    def dying(self, part, gates):
        left[0] -= 1
        if not left[0]:
            raise StoppedError
        return own(self, part, gates)

    file = tmp_path / "mask.partial"
    monkeypatch.setattr(GateGradient, "of", dying)
    with pytest.raises(StoppedError), PartialResults(file) as resume:
        learn_mask(model, scores, pairs, config, resume=resume)
    assert file.exists()
    monkeypatch.setattr(GateGradient, "of", own)
    with (
        pytest.raises(CircuitsError, match="with other settings"),
        PartialResults(file) as resume,
    ):
        learn_mask(model, scores, pairs, replace(config, size=13), resume=resume)
    with PartialResults(file) as resume:
        again = learn_mask(model, scores, pairs, config, resume=resume)
        assert int(resume.done.sum()) == 12
    assert not file.exists()
    assert torch.equal(again.scores.matrix, whole.scores.matrix)
    assert again.record == whole.record
    if ablation == "optimal":
        assert all(map(torch.equal, again.constants.tensors, whole.constants.tensors))


@pytest.mark.parametrize("objective", ["kl-divergence", "metric"])
def test_parts_of_a_step_add_up(objective, hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=4, lengths=[9, 12, 9, 7])
    scores = scored(model, pairs, steps=1)
    config = replace(QUICK, pairs_per_step=4, objective=objective)
    gates = 0.3 + 0.5 * model.layout.mask.float()
    found = [
        GateGradient(model, pairs, scores, config, metric_for(pairs), None, size).of(0, gates)
        for size in (4, 3)
    ]
    (loss, gradient), (of_parts, by_parts) = found
    assert loss == pytest.approx(of_parts, rel=1e-5) and loss > 0.01
    largest = float(gradient.abs().max())
    assert float((gradient - by_parts).abs().max()) < 1e-5 * largest


def test_what_cannot_be_learned_is_refused(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=2)
    scores = scored(model, pairs, steps=1)
    nothing = EdgeScores(torch.zeros_like(scores.matrix), scores.layout, "planted")
    cases = [
        (scores, replace(QUICK, size=10**6), RunOptions(), "this model has"),
        (nothing, QUICK, RunOptions(), "all scores of edges are 0"),
        (scored(hooked("llama"), pairs, steps=1), QUICK, RunOptions(), "no start for one with"),
        (scores, QUICK, RunOptions(recompute=True), "without running layers again"),
    ]
    for begin, config, options, message in cases:
        with pytest.raises(CircuitsError, match=message):
            learn_mask(model, begin, pairs, config, options=options)


def test_on_the_command_line(hooked, tmp_path):
    rows = ["clean,corrupted,correct,incorrect"]
    for word, other in (("Mary", "John"), ("Paris", "Rome"), ("John", "Rome"), ("Rome", "Mary")):
        rows.append(f"and {word} gave a book to,and {other} gave a book to, {word}, {other}")
    file = tmp_path / "pairs.csv"
    file.write_text("\n".join(rows))
    model = hooked("gpt2")
    pairs = load("table", path=file).pairs(model.tokenizer, n=None, split="all")
    task = TaskRecord(name="table", data=str(file))
    scored(model, pairs, steps=1).noting(task=task).save(tmp_path / "scores")
    out = tmp_path / "learned"
    learn = ("learn", "--scores", tmp_path / "scores", "--device", "cpu", "--quiet", "--out", out)
    done = run(*learn, "--size", 20, "--epochs", 3, "--pairs-per-step", 2)
    assert done.returncode == 0, done.stderr
    assert "4 pairs, 3 epochs; KL divergence in nats" in done.stdout
    assert f"wrote {out / 'mask.json'}" in done.stdout and not (out / "mask.partial").exists()
    record = MaskRecord.load(out / "mask.json")
    assert record.config == MaskConfig(20, epochs=3, pairs_per_step=2)
    assert record.start.method == "eap-ig" and record.start.data.n == 4
    assert EdgeScores.load(out).method == "learned-mask"
    assert inspect(out / "mask.json").facts["gates"] == "20 edges to stay of eap-ig's"
    assert Circuit.load(out / "circuit.json").provenance.method == "learned-mask"
    done = run(*learn, "--size", 0)
    assert done.returncode == 2 and "size 0: it must be at least 1" in done.stderr
