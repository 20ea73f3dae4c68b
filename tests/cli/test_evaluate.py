"""`circuits evaluate` as a user has it, on a Llama with GQA."""

import json
import math
import shutil
from functools import partial
from itertools import permutations

import pytest
from cli.inside import circuits
from cli.test_cli import refused
from runtime.test_resume import MEASURE, Stopped, stop_after

from circuits.cli.app import app
from circuits.cli.evaluate import _show_curve
from circuits.cli.options import DataOptions
from circuits.cli.variants import variant_pairs
from circuits.errors import CircuitsError
from circuits.evaluation import Curve, Estimate, Evaluation, Faithfulness
from circuits.graph import Circuit, EdgeScores, Layout, select
from circuits.options.evaluation import (
    BackupsConfig,
    CompletenessConfig,
    MinimalityConfig,
    StabilityConfig,
)


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    """What is looked at here are words and files; a tenth of the work writes them too."""
    verb = "circuits.cli.evaluate"
    monkeypatch.setattr(f"{verb}.StabilityConfig", partial(StabilityConfig, 20))
    monkeypatch.setattr(f"{verb}.MinimalityConfig", partial(MinimalityConfig, n_controls=5))
    monkeypatch.setattr(f"{verb}.BackupsConfig", partial(BackupsConfig, 1, 1))
    monkeypatch.setattr(
        f"{verb}.CompletenessConfig", partial(CompletenessConfig, n_sets=3, n_steps=2)
    )


WORDS = ["Mary", "John", "Paris", "Rome", "book"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory, tokenizer):
    """Twenty rows with a split of their own: ten to score on, ten not to."""
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    ids = {word: tokenizer(f" {word}")["input_ids"][0] for word in WORDS}
    lines = ["clean,corrupted,correct_idx,incorrect_idx,split"]
    lines += [
        f"and {a} gave a book to,and {b} gave a book to,{ids[a]},{ids[b]},"
        f"{'test' if number % 2 else 'validation'}"
        for number, (a, b) in enumerate(permutations(WORDS, 2))
    ]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def discovered(rows, model_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("discovered")
    done = circuits(
        *("discover", "--model", model_folder("llama"), "--task", "table", "--data", rows),
        *("--split", "validation", "--per-example", "--out", out, "--device", "cpu", "--quiet"),
    )
    assert done.returncode == 0, done.stderr
    return out


def test_it_needs_the_scores_alone_and_takes_a_split_that_they_have_not_seen(discovered, tmp_path):
    done = circuits(
        *("evaluate", "--scores", discovered, "--out", tmp_path, "--device", "cpu", "--quiet"),
        *("--minimality", "--completeness", "--backups", "--null-model"),
        *("--variant", "seed=7", "--variant", "control=refuse"),
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "faithfulness f on 10 pairs (test), 95 % intervals" in done.stdout
    for words in (
        "CPR",
        "CMD",
        "(random",
        "100.0%",
        "redundant edges",
        "incompleteness:",
        "f, zero in the place of what is left out:",
        "accuracy:",
        "another circuit that shares nothing with it:",
        "a model of shuffled weights:",
        "backups:",
        "test of minimality:",
        "under resampling",
        "stability elsewhere: ",
        "control=refuse: ",
    ):
        assert words in done.stdout, words
    written = Evaluation.load(tmp_path / "evaluation.json")
    assert {*written.last.robustness} == {"evaluate", "seed=7", "control=refuse"}
    assert {*written.pairs} == {*written.last.robustness, "score"}
    in_words = written.last.robustness["evaluate"].verdict
    assert f"\nin words: on 10 pairs (test) {in_words}\n" in done.stdout
    curves = written.last.curves
    assert curves.values[-1].value == pytest.approx(1, abs=1e-3)
    assert f"CPR {curves.cpr}" in done.stdout and f"CMD {curves.cmd}" in done.stdout
    score, evaluate = written.pairs["score"], written.pairs["evaluate"]
    assert (score.split, evaluate.split) == ("validation", "test")
    assert score.fingerprint != evaluate.fingerprint
    page = (tmp_path / "evaluation.html").read_text()
    assert "Circuit evaluation" in page and "Completeness: does the circuit" in page
    assert "1 checkpoint:" in page and "1 checkpoint," in page
    assert "What fine-tuning changed" not in page and "could not be made" not in page
    made = json.loads((discovered / "scores.json").read_text())["provenance"]["model"]
    assert written.provenance.model.model_dump() == made and made["fingerprint"]
    assert written.provenance.scores_of_another_model is None
    assert "task table, scores by eap-ig, strategy widest-path" in page


@pytest.mark.parametrize(
    "variants, said",
    [
        (["swap"], "write key=value"),
        (["seed=one"], "seed is a whole number"),
        (["seed=1", "seed=1"], "named twice"),
        (["nonsense=1"], "nonsense"),
    ],
)
def test_a_variant_that_cannot_be_read_is_refused(rows, hooked, variants, said):
    with pytest.raises(CircuitsError, match=said):
        variant_pairs(variants, "table", DataOptions(data=rows), hooked("llama"), "test", 0)


def test_a_note_says_that_the_scores_are_of_another_model_or_metric(discovered, tmp_path):
    """Legitimate, and worth knowing. Questions that were not asked name their options."""
    shutil.copytree(discovered, tmp_path / "scores")
    record = json.loads((tmp_path / "scores/scores.json").read_text())
    record["provenance"]["model"]["fingerprint"] = "0" * 32
    record["provenance"]["metric"] = "kl-divergence"
    (tmp_path / "scores/scores.json").write_text(json.dumps(record))
    done = circuits(
        *("evaluate", "--scores", tmp_path / "scores", "--out", tmp_path, "--device", "cpu"),
        *("--quiet", "--n", 5),
    )
    name = record["provenance"]["model"]["name"]
    assert done.returncode == 0, done.stderr
    assert f"note: the scores were made from another model, {name}" in done.stderr
    assert "of logit-difference (the scores are of kl-divergence)" in done.stdout
    written = Evaluation.load(tmp_path / "evaluation.json")
    assert written.provenance.scores_of_another_model == name
    page = (tmp_path / "evaluation.html").read_text()
    assert "holds no minimality: it was made without --minimality" in page
    assert f"scores of another model, {name}" in page and "the recipe leaves" not in page


def test_a_circuit_chosen_from_scores_is_the_one_evaluated(discovered, tmp_path):
    scores = EdgeScores.load(discovered)
    chosen = tmp_path / "circuit.json"
    done = circuits("select", "--scores", discovered, "--size", 40, "--out", chosen)
    wanted = select(scores, size=40)
    assert done.returncode == 0, done.stderr
    assert f"{len(wanted)} of {scores.layout.n_edges} edges between" in done.stdout
    assert Circuit.load(chosen).edges == wanted.edges and len(wanted) > 3
    other = tmp_path / "other.json"
    Circuit.of(scores.layout, wanted.edges[:-1]).save(other)
    found = []
    for circuit in (("--circuit", chosen), ("--circuit", other)):
        out = tmp_path / circuit[1].stem
        done = circuits(
            *("evaluate", "--scores", discovered, "--out", out, "--device", "cpu", "--quiet"),
            *circuit,
        )
        assert done.returncode == 0, done.stderr
        found.append(Evaluation.load(out / "evaluation.json").last)
    first, second = found
    assert (first.circuit.size, second.circuit.size) == (len(wanted), len(wanted) - 1)
    assert first.stability is not None and second.stability is None


def test_select_and_given_circuits_are_refused_with_a_reason(discovered, tmp_path):
    def said(*arguments):
        with pytest.raises(CircuitsError) as refusal:
            app([str(one) for one in arguments], standalone_mode=False)
        return str(refusal.value)

    choose = ("select", "--scores", discovered, "--out", tmp_path / "x.json")
    assert "one of --size, --fraction and --min-score" in said(*choose)
    assert "one of --size" in said(*choose, "--size", 3, "--fraction", 0.1)
    assert "fraction 1.5" in said(*choose, "--fraction", 1.5)
    assert "edges asked for; this model has" in said(*choose, "--size", 10**6)
    assert "takes no --min-score" in said(*choose, "--min-score", 0.1, "--strategy", "widest-path")
    assert not (tmp_path / "x.json").exists()
    foreign = tmp_path / "foreign.json"
    Circuit.empty(Layout(1, 2, 2)).save(foreign)
    look = ("evaluate", "--scores", discovered, "--circuit", foreign)
    assert "foreign.json: a circuit of edges of 1 layer" in said(*look)
    assert "chosen already" in said(*look, "--strategy", "top-n")


def test_examples_that_were_scored_on_are_warned_of(discovered, rows, tmp_path):
    command = ("evaluate", "--scores", discovered, "--out", tmp_path, "--device", "cpu", "--quiet")
    for given, words in (
        (("--split", "validation"), "10 of the 10 pairs were scored on"),
        (("--split", "all"), "10 of the 20 pairs were scored on"),
    ):
        done = circuits(*command, *given)
        assert done.returncode == 0, done.stderr
        assert f"warning: {words}; figures on unseen" in done.stderr


@pytest.mark.parametrize(
    ("n", "words"),
    [(1, "warning: a single pair has no interval"), (2, "intervals of 2 pairs are too narrow")],
)
def test_intervals_of_few_pairs_are_warned_of(n, words, discovered, tmp_path):
    command = ("evaluate", "--scores", discovered, "--out", tmp_path, "--device", "cpu", "--quiet")
    done = circuits(*command, "--n", n, "--minimality")
    assert done.returncode == 0 and words in done.stderr, done.stderr
    f = Evaluation.load(tmp_path / "evaluation.json").last.circuit.faithfulness
    assert math.isnan(f.low) == math.isnan(f.high) == (n == 1) and f.n == n
    assert ("[-, -]" in done.stdout) == (n == 1)
    assert "could not be made" not in (tmp_path / "evaluation.html").read_text()


def test_pairs_that_were_scored_on_are_warned_of(discovered, tmp_path):
    command = ("evaluate", "--scores", discovered, "--out", tmp_path, "--device", "cpu")
    done = circuits(*command, "--quiet", "--split", "validation")
    assert "warning: 10 of the 10 pairs were scored on" in done.stderr


def test_wide_intervals_leave_the_columns_apart(capsys):
    wide = Estimate(-12345.678, -98765.432, 98765.432, 10)
    right = Estimate(0.5, 0.4, 0.6, 10)
    curve = Curve("edge", "any", (0.5,), (9,), (9.0,), (wide,), wide, wide, wide, (None,), (right,))
    curves = dict.fromkeys(("absolute", "signed", "random"), curve)
    _show_curve(Faithfulness("edge", "m", 1.0, 0.0, (0.5,), curves, 10, "top-n", right))
    head, row = capsys.readouterr().out.splitlines()
    assert row.split("  ")[-3:] == [str(wide)] * 3
    assert row.index(str(wide), row.index(str(wide)) + 1) == head.index("signed")


@pytest.fixture(scope="module", params=[("gpt2", "node"), ("llama", "neuron")])
def of_nodes(request, rows, model_folder, tmp_path_factory):
    name, level = request.param
    out = tmp_path_factory.mktemp("nodes")
    done = circuits(
        *("discover", "--model", model_folder(name), "--task", "table", "--data", rows),
        *("--level", level, "--split", "validation", "--per-example", "--out", out),
        *("--device", "cpu", "--quiet"),
    )
    assert done.returncode == 0, done.stderr
    return level, out


def test_scores_of_nodes_and_neurons_are_evaluated_in_the_same_way(of_nodes, tmp_path):
    level, scores = of_nodes
    command = ("evaluate", "--scores", scores, "--out", tmp_path, "--device", "cpu", "--quiet")
    done = circuits(*command, "--minimality", "--completeness")
    assert done.returncode == 0 and not done.stderr, done.stderr
    for words in (
        f"{level}s    kept",
        "CPR",
        "(random",
        "100.0%",
        "redundant nodes",
        "under resampling",
    ):
        assert words in done.stdout, (words, done.stdout)
    found = Evaluation.load(tmp_path / "evaluation.json").last
    assert found.curves.values[-1].value == pytest.approx(1, abs=1e-3)
    assert f"CMD {found.curves.cmd}" in done.stdout
    assert f"{found.stability.n_stable} {level}s in 95 %" in done.stdout
    page = (tmp_path / "evaluation.html").read_text()
    assert f"fraction of {level}s kept" in page and "could not be made" not in page
    refused(
        circuits(*command, "--strategy", "greedy"),
        f"strategy 'greedy' orders edges; {level}s are taken by strategy \"top-n\"",
    )


def test_what_cannot_be_evaluated_is_refused_and_leaves_nothing(discovered, rows, tmp_path):
    command = ("evaluate", "--scores", discovered, "--device", "cpu", "--quiet")
    command += ("--out", tmp_path / "out")
    refused(circuits(*command, "--fraction", 2), "fraction 2.0: it must be above 0 and at most 1")
    refused(circuits(*command, "--strategy", "luck"), "unknown strategy 'luck'")
    shutil.copytree(discovered, tmp_path / "odd")
    record = json.loads((discovered / "scores.json").read_text())
    record["provenance"]["task"] = None
    (tmp_path / "odd/scores.json").write_text(json.dumps(record))
    odd = circuits("evaluate", "--scores", tmp_path / "odd", *command[3:])
    refused(odd, "task 'table' needs the option 'path'")
    refused(circuits(*command, "--perturbations", "noise"), "unknown perturbations 'noise'")
    same = rows.read_text().splitlines()
    same = [same[0], *(_blind(line) for line in same[1:])]
    (tmp_path / "blind.csv").write_text("\n".join(same))
    blind = circuits(
        *command, "--task", "table", "--data", tmp_path / "blind.csv", "--metric", "accuracy"
    )
    refused(blind, "faithfulness is not defined: accuracy is 0 on the clean prompts and 0 on the")
    assert not (tmp_path / "out").exists()


def _blind(line):
    """The same prompts, with answers that no model of random weights gives."""
    clean, corrupted, *_, split = line.split(",")
    return f"{clean},{corrupted},1,2,{split}"


@pytest.mark.exhaustive
def test_stopped_half_way_it_goes_on_to_the_same_bytes(discovered, tmp_path, monkeypatch):
    """Also in the midst of choosing the ranking: that costs runs too."""
    arguments = (
        "evaluate",
        "--scores",
        discovered,
        "--n",
        4,
        "--batch-size",
        1,
        "--fraction",
        0.05,
    )
    arguments = (*arguments, "--device", "cpu", "--quiet")
    counts = {}
    for name, batches in (("whole", 999), ("stopped", 3), ("stopped", 999)):
        with monkeypatch.context() as patch:
            ran = stop_after(patch, batches, MEASURE)
            if batches == 999:
                done = circuits(*arguments, "--out", tmp_path / name)
                assert done.returncode == 0, done.stderr
            else:
                with pytest.raises(Stopped):
                    circuits(*arguments, "--out", tmp_path / name)
                assert (tmp_path / name / "evaluation.partial").is_dir()
            counts[name] = counts.get(name, []) + ran
    assert counts["stopped"] == counts["whole"]
    written = [(tmp_path / name / "evaluation.json").read_bytes() for name in ("whole", "stopped")]
    assert written[0] == written[1]
    assert not (tmp_path / "stopped" / "evaluation.partial").exists()
