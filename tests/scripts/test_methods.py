"""The table of methods: a cell says what the package says, and is made once."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracles.bootstrap import bca

import circuits
from circuits.attribution import METHODS
from circuits.errors import CircuitsError
from circuits.evaluation import CurveConfig, measure
from circuits.graph import NodeCircuit
from circuits.graph.orders import edge_order
from circuits.metrics import metric_for
from circuits.statistics import resample_weights
from circuits.statistics.estimate import Estimate

SCRIPTS = Path(__file__).parents[2] / "scripts"
N = 5


@pytest.fixture(scope="module")
def scripts():
    """The modules by name; none of them is left behind, for their names are of others too."""
    before, folders = set(sys.modules), [str(SCRIPTS / "benchmarks"), str(SCRIPTS)]
    sys.path[:0] = folders
    names = (
        *("method_rows", "method_cells", "method_bench", "method_tables", "methods"),
        *("node_formulas", "node_rankings"),
    )
    yield {name: importlib.import_module(name) for name in names}
    sys.path[:] = [folder for folder in sys.path if folder not in folders]
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and SCRIPTS in Path(file).parents:
            del sys.modules[name]


@pytest.fixture(scope="module")
def bench(scripts, hooked, random_pairs, tmp_path_factory):
    """A tiny Llama; its pairs are of random tokens."""
    pairs, judged = random_pairs(n=N, seed=1), random_pairs(n=N, seed=2)
    folder = tmp_path_factory.mktemp("cells")
    return scripts["method_bench"].Bench("tiny", hooked("llama"), "none", pairs, judged, folder)


def test_every_registered_method_has_a_row(scripts):
    rows = scripts["method_rows"].ROWS
    assert set(METHODS) <= set(rows) and {"mask", "eap-ig + mask"} <= set(rows)
    assert {name for row in rows.values() for name in row.members} <= set(rows)
    assert len(scripts["methods"].SIX) == 6


def test_figures_are_those_of_the_curve(scripts, bench):
    cells, ratio = scripts["method_cells"], scripts["method_bench"].POSITIVE_RATIO
    scores = circuits.attribute(bench.model, bench.pairs, "gim")
    fractions = (*cells.FRACTIONS, 1.0)
    mixed = edge_order(scores, ranking="mixed", positive_ratio=ratio, join=True)
    curve = CurveConfig(fractions=fractions, n_random=0, extra_orders={"mixed": mixed})
    expected = circuits.faithfulness(bench.model, scores, bench.judged, curve=curve)
    cell = bench.cell("gim")
    figures = cell.figures()
    for ours, theirs in ((figures.cpr, expected.cpr), (figures.cmd, expected.cmd)):
        assert (ours.value, ours.low, ours.high) == pytest.approx(
            (theirs.value, theirs.low, theirs.high), rel=1e-4
        )
    assert expected.cpr.value != pytest.approx(0, abs=0.01)
    for ranking, shares in cells.RANKINGS.items():
        for index, share in enumerate(shares):
            theirs = expected.curves[ranking].at(share).value
            assert figures.f[ranking][index].value == pytest.approx(theirs, abs=1e-4)
            right = expected.curves[ranking].accuracy[fractions.index(share)].value
            assert figures.accuracy[ranking][index].value == right
    assert 0 <= cell.halves.value <= 1 and cell.seconds > 0


def test_differences_are_paired(bench):
    base, other = bench.cell("eap-ig"), bench.cell("gim")
    cpr, cmd = other.less(base)
    figures, base_figures = other.figures(), base.figures()
    assert cpr.value == pytest.approx(figures.cpr.value - base_figures.cpr.value)
    assert cmd.value == pytest.approx(figures.cmd.value - base_figures.cmd.value)
    assert abs(cpr.value) > 1e-3 and cpr.low <= cpr.value <= cpr.high
    for same in base.less(base):
        assert (same.value, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_a_cell_is_made_once_and_what_it_is_made_from_counts(bench):
    both = bench.cell("eap-ig + gim")
    assert both.seconds >= bench.cell("eap-ig").seconds + bench.cell("gim").seconds
    assert both.halves is None
    (path,) = bench.folder.glob("eap-ig-and-gim.json")
    before = path.stat().st_mtime_ns
    assert bench.cell("eap-ig + gim").metric.equal(both.metric)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(CircuitsError, match=r"eap-ig-and-gim\.json: made with score=5 judge=5"):
        replace(bench, pairs=bench.pairs[:4]).cell("eap-ig + gim")


def test_scores_that_no_pair_moves_have_no_stability(bench):
    assert bench.cell("random").halves is None


def test_what_refuses_is_in_the_table_with_its_reason(scripts, bench, monkeypatch, tmp_path):
    monkeypatch.setattr("circuits.attribution.exact.LIMIT", 1)
    rows = dict(scripts["method_rows"].ROWS)
    rows["of exact"] = replace(rows["eap-ig + gim"], members=("exact", "gim"))
    monkeypatch.setattr(scripts["method_bench"], "ROWS", rows)
    names = ("eap-ig", "exact", "of exact", "gim")
    cells = [bench.cell(name) for name in names]
    assert "it must be forced" in cells[1].refused
    assert cells[2].refused == f"exact: {cells[1].refused}"
    text = "\n".join(scripts["method_tables"].tables(cells))
    assert "| exact | refused |" in text and f"- exact: {cells[1].refused}" in text
    assert "| eap-ig | 1 |" in text and text.count("\n| gim | ") == 2


def at_its_input(model, pairs, steps):
    """By plain autograd on a Llama: what MLPs put out, clean less corrupted, times the gradient
    at what goes into their norm, on a copy that nothing else reads.
    """
    layers, metric = model.hf.model.layers, metric_for(pairs, None)
    batch = pairs.batch(list(range(len(pairs))))

    def run(tokens, embedding=None):
        entered, outputs, copies, handles = [], [], [], []

        def enter(_, args):
            entered.append(args[0].detach())
            return None if embedding is None else (embedding, *args[1:])

        def copy(_, args):
            copies.append(args[0] * torch.ones_like(args[0], requires_grad=True))
            copies[-1].retain_grad()
            return (copies[-1],)

        handles.append(layers[0].register_forward_pre_hook(enter))
        for layer in layers:
            handles.append(layer.post_attention_layernorm.register_forward_pre_hook(copy))
            handles.append(layer.mlp.register_forward_hook(lambda *a: outputs.append(a[2])))
        logits = model.hf(input_ids=tokens).logits[:, -1]
        for handle in handles:
            handle.remove()
        return logits, entered[0], outputs, copies

    reference, end, at_clean, _ = run(batch.clean)
    _, start, at_corrupted, _ = run(batch.corrupted)
    total = 0
    for step in range(steps):
        point = (start + (step + 0.5) / steps * (end - start)).requires_grad_()
        logits, _, _, copies = run(batch.clean, point)
        metric(logits, batch, reference).sum().backward()
        total += torch.stack(
            [
                ((clean - corrupted) * copy.grad).sum(dim=(1, 2)) / steps
                for clean, corrupted, copy in zip(at_clean, at_corrupted, copies, strict=True)
            ],
            dim=1,
        )
    return batch.index, total.detach()


def test_the_formula_at_an_mlps_input_is_plain_autograds(scripts, bench):
    formulas, model = scripts["node_formulas"], bench.model
    scores = circuits.attribute_nodes(model, bench.pairs, "eap-ig", per_example=True)
    values = formulas.with_mlp_inputs(model, bench.pairs, scores)
    index, expected = at_its_input(model, bench.pairs, formulas.STEPS)
    rows = [mlp.place.row for mlp in model.view.mlps]
    assert expected.abs().max() > 1e-3
    largest = float(expected.abs().max())
    assert torch.allclose(values[index][:, rows], expected, atol=1e-5 * largest)
    heads = [row for row in range(model.layout.shape[0]) if row not in rows]
    assert values[:, heads].equal(scores.per_example[:, heads])
    assert not torch.allclose(values[:, rows], scores.per_example[:, rows], atol=0.1 * largest)


def test_exact_effects_are_of_circuits_that_lack_one_node(scripts, bench):
    formulas, model = scripts["node_formulas"], bench.model
    scores = circuits.attribute_nodes(model, bench.pairs, "eap-ig", per_example=True)
    exact = formulas.exact_effects(model, bench.pairs, scores)
    names = model.layout.sources
    lacking = [
        NodeCircuit.of(model.layout, [name for name in names if name != left_out])
        for left_out in names[1:]
    ]
    columns = measure(model, bench.pairs, lacking).columns
    expected = (columns[:, :1] - columns[:, 2:]).to(exact)
    largest = float(expected.abs().max())
    assert largest > 1e-3 and not exact[:, 0].any()
    assert torch.allclose(exact[:, 1:], expected, atol=1e-5 * largest)


def test_circuits_of_nodes_by_each_formula(scripts, bench):
    formulas = scripts["node_formulas"]
    scores = circuits.attribute_nodes(bench.model, bench.pairs, "eap-ig", per_example=True)
    exact = formulas.exact_effects(bench.model, bench.pairs, scores)
    by_formula = {"at output": scores.per_example, "at input": exact, "exact": exact}
    draws = [range(2), range(2, 4)]
    text = formulas.circuit_table(bench.model, bench.judged, scores, by_formula, draws)
    best = replace(scores, values=exact[:2].mean(dim=0), per_example=None)
    of_two = replace(scores, values=exact[2:4].mean(dim=0), per_example=None)
    share = formulas.SHARES[-1]
    size = round(share * (bench.model.layout.shape[0] - 1))
    picked = [circuits.select_nodes(one, size, ranking="signed") for one in (best, of_two)]
    measured = measure(bench.model, bench.judged, picked)
    clean, corrupted, *values = measured.columns.mean(dim=0).tolist()
    f = [(value - corrupted) / (clean - corrupted) for value in values]
    columns = measured.columns.tolist()
    counts = (N * resample_weights(N, 1000, seed=0)).round().long().tolist()

    def mean_share(rows):
        clean, corrupted, *kept = (sum(column) for column in zip(*rows, strict=True))
        return sum((one - corrupted) / (clean - corrupted) for one in kept) / len(kept)

    told = scripts["method_tables"].told(Estimate(*bca(columns, mean_share, counts), N))
    cell = f"{told}, {min(f):.2f} to {max(f):.2f} ("
    (row,) = [line for line in text.splitlines() if line.startswith("| exact | signed |")]
    assert row.split(" | ")[-1].startswith(cell)
    assert text.count("| mixed |") == 4
    f_at = {
        tuple(line.split(" | ")[:2]): float(line.split(" | ")[2].partition(" ")[0])
        for line in text.splitlines()
        if "signed" in line
    }
    difference = f_at["| at output", "signed"] - f_at["| exact", "signed"]
    assert f_at["| output less input", "signed"] == pytest.approx(difference, abs=0.011)
    agreement = formulas.agreement(bench.model, by_formula).splitlines()
    same = [line.split(" | ")[2:] for line in agreement if " | at input | " in line]
    other = [line.split(" | ")[2:] for line in agreement if " | at output | " in line]
    assert [cells[1] for cells in same] == ["1.00", "1.00"]
    assert all(cells[0].startswith("0 of ") and cells[-1] == "0.00 |" for cells in same)
    assert len(other) == 2 and all(cells[-1] != "0.00 |" for cells in other)


def test_the_choice_of_a_ranking_is_held_against_each(scripts, bench, random_pairs):
    rankings, level = scripts["node_rankings"], "neuron"
    others = random_pairs(n=N, seed=3)
    case = rankings.Case("tiny", bench.model, bench.pairs, others, bench.judged, (5, 20))
    scores = circuits.attribute_nodes(bench.model, bench.pairs, "eap-ig", level=level)
    found = list(rankings.rows(case, level))
    assert [row.size for row in found] == [5, 20]
    for row in found:
        choice = circuits.choose_ranking(
            bench.model, scores, others, circuits.RankingTrials(row.size)
        )
        assert row.taken == choice.taken.name
        off = {}
        for name, f in row.f.items():
            ranking, _, ratio = name.partition(" ")
            ratio = float(ratio) if ratio else None
            circuit = circuits.select_nodes(scores, row.size, ranking=ranking, positive_ratio=ratio)
            clean, corrupted, kept = (
                measure(bench.model, bench.judged, [circuit]).columns.mean(dim=0).tolist()
            )
            assert f.value == pytest.approx((kept - corrupted) / (clean - corrupted), abs=1e-6)
            off[name] = abs(1 - f.value)
        assert len({round(value, 4) for value in off.values()}) > 1
        difference = off[row.taken] - off["absolute"]
        assert row.less_absolute.value == pytest.approx(difference, abs=1e-9)
    text = rankings.tables(found)
    assert f"5 of {len(scores.values) - 1}" in text and "over 2 rows: absolute " in text


def test_a_killed_run_goes_on_and_tables_can_be_made_alone(scripts, tmp_path, monkeypatch, capsys):
    given = ["--models", "newsroom-gpt2", "--tasks", "newsroom", "--score", "2", "--judge", "2"]

    def run(*more):
        monkeypatch.setattr(sys, "argv", ["methods.py", *given, "--out", str(tmp_path), *more])
        scripts["methods"].main()
        return capsys.readouterr().out

    assert "newsroom-gpt2 newsroom eap-ig: CPR " in run("--methods", "eap-ig")
    (path,) = tmp_path.glob("*/*/eap-ig.json")
    before = path.stat().st_mtime_ns
    assert "newsroom-gpt2 newsroom random: CPR " in run("--methods", "random")
    assert path.stat().st_mtime_ns == before
    text = run("--tables")
    assert text.count("\n| eap-ig |") == text.count("\n| random |") == 2
    assert "\n| gim |" not in text and text.startswith((tmp_path / "tables.md").read_text())
