"""What a search says that it cost."""

from itertools import groupby

import pytest

from circuits.search import AcdcConfig, acdc


@pytest.fixture(scope="module")
def one_pair(random_pairs):
    return random_pairs(n=1, length=7, seed=3)


def test_the_cost_counts_layers_from_the_reader_on(hooked, one_pair):
    model = hooked("gpt2")
    found = acdc(model, one_pair, AcdcConfig(0.0, width=1))

    def layers_from(name):  # a reader's own on; none from the logits' on
        layer = model.layout.reader_nodes[model.layout.edge(name)[1]].layer
        return 0 if layer is None else 3 - layer

    trials = sum(layers_from(step.name) for step in found.history)
    # What was settled runs once before a reader's trials, from the first that lacks an edge on.
    settled, lacking = 0, [0]
    for _, steps in groupby(found.history, key=lambda step: step.name.partition("->")[2]):
        steps = list(steps)
        settled += max(lacking) if len(steps) > 1 else 0
        lacking += [layers_from(step.name) for step in steps if not step.kept]
    assert settled > 0
    assert found.cost.layers_run == trials + settled
    assert found.cost.naive_layers == 3 * model.layout.n_edges
    assert found.cost.saving == found.cost.naive_layers / found.cost.layers_run > 1.4


def test_the_cost_counts_both_stacks_of_an_encoder_decoder(hooked, one_pair):
    """Every circuit is a whole run there: fewer circuits than nodes are fewer layers."""
    model = hooked("bart")
    found = acdc(model, one_pair, AcdcConfig(0.0, level="node", width=1)).cost
    depth = model.layout.n_layers + model.layout.n_encoder_layers
    tried = found.decisions + found.untried
    assert (found.layers_run, found.naive_layers) == (depth * found.runs, depth * tried)
    assert found.saving == tried / found.runs
