"""A new method is one class and one entry; what it needs for that is asked for on import."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from typer.testing import CliRunner

import circuits
from circuits.attribution import METHODS, cost_of
from circuits.attribution import registry as registered
from circuits.attribution.batch_scores import BatchScores
from circuits.attribution.eap import EAP
from circuits.attribution.method import MetricFree, run_clean_corrupted
from circuits.cli.app import app
from circuits.errors import CircuitsError
from circuits.planning import CostModel, Job, Shape
from circuits.planning.costs import ends_phases, ends_work


@dataclass(frozen=True)
class Ones(MetricFree):
    """Every edge alike."""

    name: ClassVar[str] = "ones"
    cost: ClassVar[CostModel] = CostModel("ones", "all edges alike", ends_phases, ends_work)
    height: float = 1.0

    def scores(self, model, batch, metric, progress=False):
        scores = self.height * model.layout.mask.expand(len(batch), -1, -1)
        return BatchScores(scores, *run_clean_corrupted(model, batch, metric))


def test_one_entry_makes_a_method_known_everywhere(hooked, random_pairs, monkeypatch):
    known = registered.registry([*METHODS.values(), Ones])
    monkeypatch.setattr(registered, "METHODS", known)
    model = hooked("gpt2")
    found = circuits.attribute(model, random_pairs(n=2), "ones", height=2.0)
    assert torch.equal(found.matrix, 2.0 * model.layout.mask)
    assert found.provenance.settings == {"height": 2.0}
    assert Job(Shape(2, 8), cost_of("ones")).passes == 1
    for verb in ("discover", "plan"):
        text = " ".join(CliRunner().invoke(app, [verb, "--help"]).output.split())
        assert "all edges alike" in text and "{" not in text, verb
    with pytest.raises(CircuitsError, match=r"unknown method 'twos'; known: .*, ones"):
        circuits.attribute(model, random_pairs(n=2), "twos")


def test_a_method_without_a_part_is_refused_at_once():
    class Costless(MetricFree):
        name = "costless"

        def scores(self, model, batch, metric, progress=False): ...

    with pytest.raises(TypeError, match="Costless is no attribution method: it lacks cost"):
        registered.registry([Costless])

    class Other(Ones):
        cost = replace(Ones.cost, name="another")

    for methods in ([EAP, EAP], [Other]):
        with pytest.raises(TypeError, match="is taken, or not its cost's"):
            registered.registry(methods)


def test_every_method_says_what_it_is_and_costs():
    for name, one in METHODS.items():
        assert one.cost.name == name and one.cost.description, name
    assert set(registered.node_methods()) == {"eap-ig", "eap", "clean-corrupted", "relp", "gim"}
