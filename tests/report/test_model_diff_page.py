"""The page of a diff of models, from made-up measurements."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import torch

from circuits.importance import ResampledChanges
from circuits.model_diff.diff import ModelDiff, ModelDiffs, summarize
from circuits.model_diff.documents import DocumentDiffs
from circuits.model_diff.head_types import HeadMasses
from circuits.model_diff.hidden import CheckpointStates
from circuits.model_diff.neurons import NeuronSums
from circuits.model_diff.trace import Neurons
from circuits.plot.figures.path import path_views
from circuits.plot.palette import DARK, LIGHT, resolve
from circuits.report.blocks import Text
from circuits.report.model_diff_page import write_model_diff_page
from circuits.report.sections import hidden
from circuits.report.sections.model_diff import comparison
from circuits.statistics.estimate import Estimate

DOCUMENTS, LAYERS, HEADS = 12, 4, 4


def made(name: str, base: str, seed: int, edges: ResampledChanges | None = None) -> ModelDiff:
    draw = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(DOCUMENTS, LAYERS, *shape, generator=draw)

    sums = NeuronSums(DOCUMENTS)
    shift = torch.linspace(-2, 2, 60)
    for index in torch.arange(DOCUMENTS).split(5):
        values = 1 + 0.1 * torch.randn(len(index), 60, generator=draw)
        one = Neurons(values + shift, (values + shift).square() + 1)
        other = Neurons(values, values.square() + 1)
        sums.add(index, [one] * LAYERS, [other] * LAYERS)
    mass = random(HEADS) * 0.1
    after = mass.clone()
    after[:, 2, 1] += 0.7
    chance = torch.full((DOCUMENTS,), 0.05)
    documents = DocumentDiffs(
        random(HEADS),
        random(HEADS),
        random(HEADS),
        random(),
        random(),
        random(),
        random(),
        random(),
        {"previous-token": HeadMasses(after, mass, chance)},
        sums.statistics(),
    )
    return summarize(documents, (name, base), edges=edges, n_resamples=100)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    draw = torch.Generator().manual_seed(0)
    drawn = torch.arange(4.0) + 0.1 * torch.randn(9, 4, generator=draw)
    edges = ResampledChanges.of_means(drawn, n_resamples=100, seed=0)
    states = CheckpointStates(
        ("base", "a<b>/step-10", "a<b>/step-90"),
        torch.randn(3, LAYERS, 6, 8, generator=draw),
        torch.full((6,), 2.0),
    )
    folder = tmp_path_factory.mktemp("model_diff")
    file = ModelDiffs(
        task="newsroom",
        split="test",
        models={},
        comparisons=(
            made("a<b>/step-90", "base", 0, edges),
            made("lora", "base", 1),
            made("lora", "a<b>/step-90", 2),
        ),
        trajectory=states.trajectory(),
    ).save(folder / "model_diff.json")
    where = write_model_diff_page(ModelDiffs.load(file), folder / "page.html")
    assert isinstance(where, Path)
    text = where.read_text(encoding="utf-8")
    found = re.search(r'id="plots">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return text, json.loads(found[1])


def test_plotly_accepts_every_figure_in_both_schemes(page: tuple[str, dict[str, Any]]) -> None:
    plots = page[1]
    assert len(plots) == 2 + 3 * 4 + 2
    for views in plots.values():
        for plot in views.values():
            for palette in (LIGHT, DARK):
                go.Figure(resolve(plot, palette))


def test_the_pairs_stand_side_by_side(page: tuple[str, dict[str, Any]]) -> None:
    lines = [line for line in page[1]["figure-1"][""]["data"] if line.get("name")]
    assert [line["name"] for line in lines] == [
        "a&lt;b&gt;/step-90 against base",
        "lora against base",
        "lora against a&lt;b&gt;/step-90",
    ]
    assert all(len(line["y"]) == LAYERS for line in lines)


def test_the_path_is_coloured_by_step(page: tuple[str, dict[str, Any]]) -> None:
    views = next(views for views in page[1].values() if "layer 3, flat" in views)
    cloud, line = views["layer 3"]["data"]
    assert line["type"] == "scatter3d" and line["marker"]["color"] == [0, 10, 90]
    assert cloud["marker"]["color"] == [0] * 6 + [10] * 6 + [90] * 6
    assert views["layer 3"]["layout"]["coloraxis"]["cmin"] == 0
    assert line["text"] == ["base", "a&lt;b&gt;/step-10", "a&lt;b&gt;/step-90"]
    assert [trace["type"] for trace in views["layer 3, flat"]["data"]] == ["scatter", "scatter"]


def test_a_path_without_steps_is_coloured_by_order() -> None:
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(3, LAYERS, 6, 8, generator=draw)
    found = CheckpointStates(("base", "tuned", "lora"), states, torch.ones(6)).trajectory()
    assert found.steps is None
    plot = path_views(found)["layer 3"]
    assert plot["data"][1]["marker"]["color"] == [0, 1, 2]
    assert "step" not in json.dumps(plot)
    figures = list(hidden.trajectory(found))
    assert "coloured by the order given" in str(figures[0].caption)


def test_head_types_and_flips_are_told(page: tuple[str, dict[str, Any]]) -> None:
    text = page[0]
    assert "a2.h1 gained the type previous-token" in text
    (top,) = (views[""]["data"] for name, views in page[1].items() if name == "figure-5")
    kinds = {trace["name"]: trace for trace in top}
    assert set(kinds) == {"changed", "changed its sign"}
    assert sum(len(trace["x"]) for trace in kinds.values()) == 50
    assert max(kinds["changed its sign"]["x"]) < -0.5


def test_the_criteria_say_over_how_many_examples(page: tuple[str, dict[str, Any]]) -> None:
    assert "documents (edges: 9 examples)" in page[0]


def test_nothing_is_loaded(page: tuple[str, dict[str, Any]]) -> None:
    assert not re.search(r"<(script|link)[^>]+(src|href)=\"http", page[0])


def test_neurons_of_a_model_against_itself_are_not_listed() -> None:
    diff = made("a", "b", 0)
    assert diff.neurons is not None
    still = tuple(
        neuron.model_copy(update={"change": Estimate(0.0, 0.0, 0.0, DOCUMENTS)})
        for neuron in diff.neurons.top
    )
    neurons = diff.neurons.model_copy(update={"top": still})
    blocks = list(comparison(diff.model_copy(update={"neurons": neurons})))
    captions = [str(getattr(block, "caption", "")) for block in blocks]
    texts = [str(block.text) for block in blocks if isinstance(block, Text)]
    assert "No neuron's mean activation changed." in texts
    assert not any("changed most" in caption and "neurons" in caption for caption in captions)
