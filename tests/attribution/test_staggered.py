"""Points of each example's own, against examples scored one by one at those points."""

import pytest
import torch
from typer.testing import CliRunner

from circuits.attribution import attribute, attribute_nodes
from circuits.attribution.engine import edge_samples
from circuits.attribution.quadrature import Rule, staggered
from circuits.cli.app import app
from circuits.errors import CircuitsError
from circuits.metrics import metric_for
from circuits.options.run import RunOptions


@pytest.mark.parametrize("steps", [1, 2])
def test_each_example_has_its_own_points(steps, hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=4, lengths=[9, 7, 8, 9])
    found = attribute(
        model, pairs, steps=steps, quadrature="staggered", per_example=True, options=RunOptions(3)
    )
    for place in range(4):
        shift = float(staggered(steps, torch.tensor([place])).shifts[0])
        nodes = tuple(step / steps + shift for step in range(steps))
        alone = edge_samples(
            model, pairs.batch([place]), metric_for(pairs), Rule(nodes, (1 / steps,) * steps)
        ).scores()
        assert float(alone.scores.abs().max()) > 0
        torch.testing.assert_close(
            found.per_example[place],
            alone.scores[0],
            rtol=0,
            atol=1e-5 * float(alone.scores.abs().max()),
        )
    assert found.provenance.error is None
    nodes = attribute_nodes(model, pairs, steps=steps, quadrature="staggered")
    assert float(nodes.values.abs().max()) > 0


def test_points_of_many_examples_fill_the_path():
    rule = staggered(2, torch.arange(200))
    taken = torch.cat([rule.shifts + node for node in rule.nodes]).sort().values
    even = (torch.arange(400) + 0.5) / 400
    torch.testing.assert_close(taken, even, rtol=0, atol=0.006)
    assert torch.equal(staggered(2, torch.arange(9)).shifts, rule.shifts[:9])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--steps", "3"), "--budget says how eap-ig takes its steps"),
        (("--method", "eap"), "--budget says how eap-ig takes its steps"),
    ],
)
def test_a_budget_leaves_no_steps_to_choose(given, message, tmp_path, monkeypatch):
    monkeypatch.setattr("circuits.cli.options.load_hooked", None)  # no model is loaded
    arguments = ["discover", "--model", "newsroom-gpt2", "--task", "newsroom", "--budget", "9"]
    done = CliRunner().invoke(app, [*arguments, *given, "--out", str(tmp_path)])
    assert isinstance(done.exception, CircuitsError) and message in str(done.exception)
