"""ACDC against a slow search that reruns the whole model by the oracle, edge by edge."""

import importlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.split_paths import SplitPaths
from unknown_keys import refused

from circuits.errors import CircuitsError
from circuits.evaluation import measure
from circuits.graph import Circuit
from circuits.intervention import CircuitRunner
from circuits.intervention.ablation import constants
from circuits.metrics import METRICS
from circuits.options.declared import options_from
from circuits.options.run import RunOptions
from circuits.plot.figures.circuit_graph import circuit_graph
from circuits.search import AcdcConfig, Search, acdc
from circuits.search.speculation import decide
from tasks.pairs import PairSet, PromptPair

module = importlib.import_module("circuits.search.acdc")  # the name is the function's as well


class Oracle:
    """The mean metric of a circuit, one whole run an example, every edge added up by itself."""

    def __init__(self, model, pairs, metric):
        view = model.view
        self.split = SplitPaths(model.hf, view.layout.n_heads, view.layout.n_kv_heads, view.d_head)
        self.batches = [pairs.batch([place]) for place in range(len(pairs))]
        self.metric = METRICS[metric]
        self.clean = [self.split.run(batch.clean)[0].detach() for batch in self.batches]

    def __call__(self, mask):
        total = 0.0
        for batch, clean in zip(self.batches, self.clean, strict=True):
            logits = self.split.execute(batch.clean, batch.corrupted, mask)
            reads = (
                logits[batch.example_index, batch.position],
                clean[batch.example_index, batch.position],
            )
            total += float(self.metric(reads[0], batch, reads[1])[0])
        return total / len(self.batches)


def slow_acdc(layout, measure, threshold, share=False):
    """Algorithm 1 in its plainest form, with no guess and nothing skipped but unread readers."""
    mask, history = layout.mask.clone(), {}
    current = measure(mask)
    for column in reversed(range(layout.shape[1])):
        fed = list(layout.feeds[column])
        if fed and not mask[fed].any():
            mask[:, column] = False
            continue
        for row in reversed(range(layout.shape[0])):
            if not mask[row, column]:
                continue
            trial = mask.clone()
            trial[row, column] = False
            after = measure(trial)
            kept = abs(after - current) > threshold * (abs(current) if share else 1) + 1e-5
            history[layout.edge_name(row, column)] = (current, after, kept)
            if not kept:
                mask, current = trial, after
    return mask, history


@pytest.fixture(scope="module")
def one_pair(random_pairs):
    return random_pairs(n=1, length=7, seed=3)


@pytest.mark.parametrize(
    ("name", "metric", "threshold", "share"),
    [
        ("gpt2", "logit-difference", 0.0, False),
        ("llama", "logit-difference", 0.0, False),
        ("gpt2", "kl-divergence", 0.01, False),
        ("llama", "logit-difference", 0.02, True),
    ],
)
@pytest.mark.exhaustive_but("llama-logit-difference-0.02-True")
def test_same_trials_and_verdicts_as_the_slow_search(
    name, metric, threshold, share, hooked, one_pair
):
    model = hooked(name)
    oracle = Oracle(model, one_pair, metric)
    mask, expected = slow_acdc(model.layout, oracle, threshold, share)
    assert sum(kept for *_, kept in expected.values()) > 0
    assert threshold == 0 or not all(kept for *_, kept in expected.values())
    found = acdc(
        model,
        one_pair,
        AcdcConfig(threshold, relative_to="current" if share else None, width=5),
        metric=metric,
    )
    assert [step.name for step in found.history] == list(expected)
    scale = max(abs(after) for _, after, _ in expected.values())
    for step in found.history:
        before, after, kept = expected[step.name]
        assert step.kept == kept, step
        assert step.before == pytest.approx(before, abs=1e-5 * scale)
        assert step.after == pytest.approx(after, abs=1e-5 * scale)
    assert torch.equal(found.circuit.mask, Circuit(model.layout, mask).pruned().mask)
    assert found.metric_circuit == pytest.approx(oracle(found.circuit.mask), abs=1e-5 * scale)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_at_zero_all_that_matters_stays_and_at_infinity_nothing(name, hooked, one_pair):
    model = hooked(name)
    everything = acdc(model, one_pair, AcdcConfig(0.0))
    assert len(everything.circuit) > 0.8 * model.layout.n_edges
    for step in everything.history:
        assert step.kept == (abs(step.after - step.before) > 1e-5)
    nothing = acdc(model, one_pair, AcdcConfig(math.inf))
    assert len(nothing.circuit) == 0 and not any(step.kept for step in nothing.history)
    assert nothing.metric_circuit == pytest.approx(nothing.metric_empty, abs=1e-5)
    assert abs(nothing.metric_model - nothing.metric_empty) > 0.01
    # Once no edge reaches the logits, nothing else needs a run.
    assert nothing.cost.decisions == int(model.layout.mask[:, model.layout.logits_column].sum())
    assert nothing.cost.untried == model.layout.n_edges - nothing.cost.decisions


def test_the_metric_is_the_circuits_where_a_norm_stands_behind_attention(hooked, one_pair):
    """Edges into heads that nothing reads go without a trial, and change the layer's scale."""
    model, batch = hooked("gemma3"), one_pair.batch([0])
    found = acdc(model, one_pair, AcdcConfig(0.3, relative_to="model"))
    executor = CircuitRunner(model, batch)
    logits = executor.logits(found.circuit)
    metric = float(METRICS["logit-difference"](logits, batch, executor.clean)[0])
    assert found.metric_circuit == pytest.approx(metric, abs=1e-5)
    last = [step.after for step in found.history if not step.kept][-1]
    assert found.cost.untried and abs(last - metric) > 1e-4


def test_edges_that_cannot_matter_go_at_zero(hooked):
    """With one position to look at, what a query or a key reads changes nothing."""
    pairs = PairSet((PromptPair((5,), (9,), ((3,),), ((4,),)),), metric="logit-difference")
    found = acdc(hooked("llama"), pairs, AcdcConfig(0.0))
    gone = {step.name for step in found.history if not step.kept}
    assert gone == {step.name for step in found.history if step.name.endswith(("<q>", "<k>"))}
    assert gone and any(step.name.endswith("<v>") for step in found.history)


@pytest.mark.exhaustive
def test_width_and_batches_change_no_verdict(hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=2, lengths=[7, 5], seed=5)
    alone = acdc(model, pairs, AcdcConfig(0.03, width=1), options=RunOptions(batch_size=1))
    assert alone.cost.runs == 2 * alone.cost.decisions
    assert 0 < len(alone.circuit) < model.layout.n_edges
    verdicts = [(step.name, step.kept) for step in alone.history]
    together = acdc(model, pairs, AcdcConfig(0.03, width=17))
    assert [(step.name, step.kept) for step in together.history] == verdicts


@pytest.mark.parametrize("order", ["forward", "random"])
@pytest.mark.exhaustive_but("random")
def test_order_is_as_stated(order, hooked, one_pair):
    layout = hooked("gpt2").layout
    found = acdc(hooked("gpt2"), one_pair, AcdcConfig(0.02, order=order))
    into = [s.name.partition("->")[0] for s in found.history if s.name.endswith("->logits")]
    rows = [layout.sources.index(name) for name in into]
    assert sorted(rows) == list(range(layout.shape[0]))
    assert (rows == sorted(rows)) == (order == "forward")
    columns = [layout.edge(step.name)[1] for step in found.history]
    assert columns == sorted(columns, reverse=True)
    again = acdc(hooked("gpt2"), one_pair, AcdcConfig(0.02, order=order))
    assert again.to_json() == found.to_json()


def test_the_signed_criterion_lets_go_what_works_against_the_behaviour(hooked, one_pair):
    model = hooked("gpt2")
    found = acdc(model, one_pair, AcdcConfig(0.0, criterion="signed"))
    gone = [step for step in found.history if not step.kept]
    assert gone and all(step.after >= step.before - 1e-5 for step in gone)
    assert found.metric_circuit > found.metric_model + 0.1


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_nodes_equal_a_slow_search(name, hooked, one_pair):
    model = hooked(name)
    layout, executor = model.layout, CircuitRunner(model, one_pair.batch([0]))
    batch = one_pair.batch([0])

    def measure(mask):
        logits = executor.logits(Circuit(layout, mask))
        return float(METRICS["logit-difference"](logits, batch)[0])

    mask = layout.mask.clone()
    current, verdicts = measure(mask), {}
    threshold = 0.3 * abs(current - measure(torch.zeros_like(mask)))
    for row in reversed(range(1, layout.shape[0])):
        trial = mask.clone()
        trial[row] = False
        after = measure(trial)
        verdicts[layout.sources[row]] = abs(after - current) > threshold
        if not verdicts[layout.sources[row]]:
            mask, current = trial, after
    assert len(set(verdicts.values())) == 2
    found = acdc(model, one_pair, AcdcConfig(threshold, level="node", width=3))
    assert {step.name: step.kept for step in found.history}.items() <= verdicts.items()
    assert torch.equal(found.circuit.mask, Circuit(layout, mask).pruned().mask)
    assert set(found.nodes) == {name for name, kept in verdicts.items() if kept}


@pytest.mark.exhaustive_but("2-145")
@pytest.mark.parametrize(("width", "at"), [(None, 12), (2, 30), (2, 145)])
def test_a_killed_search_goes_on_and_ends_with_the_same_bytes(
    width, at, hooked, one_pair, tmp_path, monkeypatch
):
    """Two side by side start from the circuit reached, but where a reader has few edges left."""
    model, config = hooked("gpt2"), AcdcConfig(0.01, width=width)
    whole = acdc(model, one_pair, config, resume=tmp_path / "whole.json")
    whole.save(tmp_path / "whole.json")

    trials, calls = module.Trials.__call__, []

    def dying(self, masks):
        calls.append(len(masks))
        if len(calls) == at:
            raise KeyboardInterrupt
        return trials(self, masks)

    monkeypatch.setattr(module.Trials, "__call__", dying)
    path = tmp_path / "killed.json"
    with pytest.raises(KeyboardInterrupt):
        acdc(model, one_pair, config, resume=path)
    with pytest.raises(CircuitsError, match="stopped-search"):
        Search.load(path)
    with pytest.raises(CircuitsError, match="other settings"):
        acdc(model, one_pair, AcdcConfig(0.02, width=width), resume=path)
    calls[:] = [0] * at
    resumed = acdc(model, one_pair, config, resume=path)
    assert 0 < sum(calls) < whole.cost.runs
    resumed.save(path)
    assert path.read_bytes() == (tmp_path / "whole.json").read_bytes()
    calls[:] = [0] * at
    again = acdc(model, one_pair, config, resume=path)
    assert sum(calls) == 0 and again.to_json() == whole.to_json()


def test_saved_and_loaded(hooked, one_pair, tmp_path):
    found = acdc(hooked("llama"), one_pair, AcdcConfig(0.05))
    found.save(tmp_path / "search.json")
    loaded = Search.load(tmp_path / "search.json")
    assert loaded.to_json() == found.to_json() and loaded.history == found.history
    assert loaded.config == found.config and loaded.config.width is not None
    assert loaded.provenance == found.provenance and loaded.provenance.metric == "logit-difference"
    assert torch.equal(loaded.circuit.mask, found.circuit.mask)
    assert loaded.circuit.provenance.settings["tau"] == 0.05
    never = acdc(hooked("gpt2"), one_pair, AcdcConfig(math.inf))
    assert math.isinf(Search.load(never.save(tmp_path / "inf.json")).config.tau)
    for content in ('{"edges": []}', "[]"):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(CircuitsError, match=r"bad\.json: "):
            Search.load(tmp_path / "bad.json")
    refused(Search.load, tmp_path / "search.json", {(): "nodes", ("cost",): "layers"})


@pytest.mark.parametrize("ablation", ["zero", "mean"])
@pytest.mark.exhaustive_but("mean")
def test_other_ablations_equal_a_slow_search(ablation, hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=2, length=7, seed=4)
    batch = pairs.batch([0, 1])
    executor = CircuitRunner(model, batch, constants(ablation, model, pairs))

    def measure(mask):
        logits = executor.logits(Circuit(model.layout, mask))
        return float(METRICS["logit-difference"](logits, batch).mean())

    mask, expected = slow_acdc(model.layout, measure, 0.1)
    found = acdc(model, pairs, AcdcConfig(0.1, ablation=ablation))
    assert {s.name: s.kept for s in found.history} == {n: k for n, (_, _, k) in expected.items()}
    assert torch.equal(found.circuit.mask, mask)
    assert 0 < len(found.circuit) < model.layout.n_edges
    corrupted = acdc(model, pairs, AcdcConfig(0.1))
    assert abs(found.metric_empty - corrupted.metric_empty) > 0.01


@pytest.mark.parametrize("nodes", [False, True])
@pytest.mark.parametrize(
    ("ablation", "threshold"),
    [("corrupted", 0.1), ("mean", 0.1), ("mean-positional", 0.1), ("zero", 0.35)],
)
@pytest.mark.exhaustive_but("corrupted-*", "mean-0.1-*")
def test_the_metric_is_that_of_the_circuit_returned(
    ablation, threshold, nodes, hooked, random_pairs, tmp_path
):
    model, pairs = hooked("gpt2"), random_pairs(n=2, length=7, seed=4)
    threshold = 0.35 if nodes else threshold
    found = acdc(
        model, pairs, AcdcConfig(threshold, ablation=ablation, level="node" if nodes else "edge")
    )
    found.circuit.save(tmp_path / "circuit.json")
    circuit = Circuit.load(tmp_path / "circuit.json")
    assert found.config.prunes == (ablation == "corrupted")
    assert 0 < len(circuit) < model.layout.n_edges
    measured = measure(model, pairs, [circuit, circuit.pruned()], ablation=ablation)
    own, pruned = measured.circuits.mean(dim=0).tolist()
    assert found.metric_circuit == pytest.approx(own, abs=1e-5)
    if not nodes:  # pruning changes the metric where it was left out, and nowhere else
        assert (abs(pruned - own) < 1e-5) == found.config.prunes
    assert circuit_graph(circuit)["data"]


def test_what_tau_is_a_share_of():
    before, model = 1.0, 10.0
    for config, least in (
        (AcdcConfig(0.1), 0.1),
        (AcdcConfig(0.1, "current"), 0.1),
        (AcdcConfig(0.1, "model"), 1.0),
        (AcdcConfig(0.3, "current"), 0.3),
        (AcdcConfig(0.3, "current", "signed"), 0.3),
    ):
        assert config.keeps(before, before - least - 0.01, model)
        assert not config.keeps(before, before - least + 0.01, model)
        assert config.keeps(before, before + least + 0.01, model) == (
            config.criterion == "absolute"
        )
    assert AcdcConfig(0.1, "current").keeps(4.0, 3.5, model)
    assert not AcdcConfig(0.1, "current").keeps(-4.0, -4.3, model)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"tau": 0.1, "ablation": "noise"},
            "unknown ablation 'noise'; known: corrupted, mean",
        ),
        ({"tau": -1.0}, "0 or more"),
        ({"tau": math.nan}, "0 or more"),
        ({"tau": 0.1, "order": "sideways"}, "known: backward, forward, random"),
        ({"tau": 0.1, "criterion": "rise"}, "known: absolute, signed"),
        ({"tau": 0.1, "level": "layer"}, "known: edge, node"),
        ({"tau": 0.1, "relative_to": "baseline"}, "known: current, model"),
        ({"tau": 0.1, "resolution": -1.0}, "0 or more"),
        ({"tau": 0.1, "width": 0}, "at least 1"),
    ],
)
def test_bad_settings_are_refused(given, message):
    with pytest.raises(CircuitsError, match=message):
        options_from(AcdcConfig, given)


def test_a_metric_that_does_not_fit_is_refused(hooked, one_pair):
    with pytest.raises(CircuitsError, match="unknown metric"):
        acdc(hooked("gpt2"), one_pair, AcdcConfig(0.1), metric="beauty")
    share = AcdcConfig(0.1, relative_to="model")
    with pytest.raises(CircuitsError, match="is 0 for"):
        acdc(hooked("gpt2"), one_pair, share, metric="kl-divergence")


@given(
    effects=st.lists(st.floats(-1, 1), min_size=1, max_size=12),
    interaction=st.floats(-1, 1),
    width=st.integers(1, 6),
    guesses=st.lists(st.booleans(), min_size=12, max_size=12),
)
@settings(max_examples=200, deadline=None)
def test_guessing_ahead_decides_as_going_one_by_one(effects, interaction, width, guesses):
    cuts = list(range(len(effects)))

    def metric(gone):
        return sum(effects[i] for i in gone) + interaction * len(gone) ** 2 / 4

    def keeps(before, after):
        return abs(after - before) > 0.5

    gone, expected = [], []
    for cut in cuts:
        before, after = metric(gone), metric([*gone, cut])
        expected.append((cut, before, after, keeps(before, after)))
        if not keeps(before, after):
            gone.append(cut)
    made = decide(
        cuts,
        metric([]),
        lambda sets: [metric(each) for each in sets],
        keeps,
        width=width,
        guess=lambda cut: guesses[cut],
    )
    assert [(d.candidate, d.before, d.after, d.kept) for d in made] == expected
