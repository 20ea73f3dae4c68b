"""What the page is given says what the files say."""

from __future__ import annotations

import base64
import json
import re
import shutil

import numpy as np
import pytest
import torch
from packed_arrays import edge_names, unpacked

from circuits import MissingResultError, open_run
from circuits.explorer import explore
from circuits.explorer.contents import EdgeNumbers, checkpoint_contents, run_contents
from circuits.explorer.page import import_map, page
from circuits.graph import Layout
from circuits.graph.orders import edge_order
from circuits.statistics.estimate import mean_estimates


@pytest.fixture(scope="module")
def contents(whole_run):
    return run_contents(open_run(whole_run), "A run", "")


@pytest.mark.parametrize(
    "layout",
    [
        Layout(2, 4, 2),
        Layout(2, 2, 2, parallel=True),
        Layout(2, 2, 2, n_encoder_layers=2, bias=True),
    ],
)
def test_edges_are_numbered_reader_after_reader(layout):
    numbers = EdgeNumbers.of(layout)
    names = edge_names(layout)
    assert len(names) == layout.n_edges
    assert numbers.of_names(names).tolist() == list(range(layout.n_edges))
    assert numbers.of_flat(numbers.flat).tolist() == list(range(layout.n_edges))


def test_scores_orders_circuits_and_intervals_are_the_files(contents, whole_run):
    run = open_run(whole_run)
    both = zip(contents["checkpoints"], run.scores.items(), strict=True)
    for given, (name, scores) in list(both)[::3]:
        layout = scores.layout
        places = [layout.edge(edge) for edge in edge_names(layout)]
        values = unpacked(given["scores"])
        assert given["name"] == name
        assert values.tolist() == [float(scores.matrix[place]) for place in places]
        order = edge_order(scores, "widest-path", "absolute").tolist()
        width = layout.shape[1]
        shown = [edge_names(layout)[one] for one in unpacked(given["order"], "<u4")]
        assert shown == [layout.edge_name(*divmod(place, width)) for place in order]
        circuit = {edge_names(layout)[one] for one in unpacked(given["circuit"], "<u4")}
        assert circuit == set(run.circuits[name].edges)
        edges = unpacked(given["intervals"]["edges"], "<u4")
        each = torch.stack([scores.per_example[:, *places[one]] for one in edges], dim=1)
        means = mean_estimates(each)
        assert np.allclose(unpacked(given["intervals"]["low"]), means.low.numpy(), rtol=1e-5)
        assert np.allclose(unpacked(given["intervals"]["high"]), means.high.numpy(), rtol=1e-5)
        f = run.evaluation.checkpoints[name].circuit.faithfulness
        assert given["circuit_f"] == {"f": f.value, "low": f.low, "high": f.high, "n": f.n}


def test_changes_are_those_that_were_significant(contents, whole_run):
    run = open_run(whole_run)
    names = edge_names(run.comparison.layout)
    said = {
        (one["before"], one["after"]): {names[edge] for edge in unpacked(one["edges"], "<u4")}
        for one in contents["changes"]
    }
    assert said == {
        (one.before, one.after): set(one.edges.changed) for one in run.comparison.comparisons
    }
    assert any(said.values())


def test_what_is_missing_costs_its_part_and_is_said(whole_run, tmp_path):
    for name in ("evaluation.json", "pairs"):
        folder = tmp_path / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole_run, folder)
        gone = folder / name
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        made = run_contents(open_run(folder), "", "")
        assert any(name.removesuffix(".json") in line for line in made["missing"]), name
        assert made["checkpoints"]
    shutil.rmtree(folder / "scores")
    with pytest.raises(MissingResultError):
        run_contents(open_run(folder), "", "")


def test_scores_of_one_example_have_no_interval(layout, make_scores):
    values = torch.rand(1, *layout.shape, generator=torch.Generator().manual_seed(0))
    made = checkpoint_contents("one", make_scores(layout, values))
    assert made["intervals"] is None and made["circuit"] is None and made["curve"] is None
    assert len(unpacked(made["scores"])) == layout.n_edges


def test_a_page_has_no_address_and_no_text_ends_its_scripts(contents, tmp_path, capsys):
    hostile = "</script><script>alert(1)</script>"
    text = page({**contents, "title": hostile}, {"note": hostile})
    assert hostile not in text
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]+"', text)
    modules = json.loads(import_map())["imports"]
    assert "circuits-explorer/vendor/cytoscape.js" in modules
    assert "circuits-explorer/live.js" not in modules
    for name, address in modules.items():
        script = base64.b64decode(address.partition("base64,")[2]).decode()
        for named in re.findall(r'^(?:import .*|\} )from "([^"]+)"', script, re.M):
            assert named in modules, f"{name} imports {named}"


def test_a_run_is_written_as_one_file(whole_run, tmp_path, capsys):
    assert explore(whole_run, path=tmp_path / "page.html") is None
    assert "page.html" in capsys.readouterr().out
    assert (tmp_path / "page.html").stat().st_size < 2**20
