import sys
import types

import pytest
import torch
import transformers
from model_diff import eager_reading

from circuits.errors import CircuitsError
from circuits.model_diff.hidden import (
    GROUPS,
    CheckpointStates,
    checkpoint_states,
    representation_trajectory,
)
from circuits.models import HookedModel
from circuits.options.run import RunOptions

LENGTHS = [9, 4, 12, 7, 5, 8]


@pytest.fixture(scope="module")
def pairs(random_pairs):
    return random_pairs(n=len(LENGTHS), lengths=LENGTHS)


@pytest.fixture(scope="module")
def checkpoints(model_folder, tmp_path_factory):
    """The base, and two steps that add more and more to a weight of layer 1."""
    root = tmp_path_factory.mktemp("steps")
    for step in (10, 20):
        model = transformers.AutoModelForCausalLM.from_pretrained(model_folder("gpt2"))
        with torch.no_grad():
            model.transformer.h[1].mlp.c_proj.weight += 0.02 * step
        model.save_pretrained(root / f"step-{step}")
    return {"base": model_folder("gpt2"), **{f"step-{s}": root / f"step-{s}" for s in (10, 20)}}


def loaders(folders):
    return {
        name: (lambda folder=folder: HookedModel.from_pretrained(folder, device="cpu"))
        for name, folder in folders.items()
    }


def test_states_are_the_means_of_each_document_alone(checkpoints, pairs):
    options = RunOptions(batch_size=4)
    found = checkpoint_states(loaders(checkpoints), pairs, options=options)
    assert found.checkpoints == ("base", "step-10", "step-20")
    assert found.states.shape == (3, 3, 6, 32) and found.n_documents == 6
    for place, folder in enumerate(checkpoints.values()):
        for row in (1, 2):
            run = eager_reading.run(folder, [*pairs[row].clean, *pairs[row].teacher_forced])
            for layer in range(3):
                expected = run.stream[layer + 1].mean(dim=0)
                assert expected.abs().max() > 0.1
                got = found.states[place, layer, row].double()
                assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_distances_grow_from_the_layer_that_was_changed(checkpoints, pairs):
    moved = representation_trajectory(loaders(checkpoints), pairs).moved
    assert bool((moved.value[0] == 0).all()) and bool((moved.value[:, 0] == 0).all())
    assert float(moved.value[2, 1]) > float(moved.value[1, 1]) > 0.01
    assert bool((moved.low <= moved.value).all()) and bool((moved.value <= moved.high).all())
    assert float(moved.high[2, 1]) > float(moved.low[2, 1]) > 0


def test_groups_bound_what_is_kept(checkpoints, random_pairs):
    many = random_pairs(n=3 * GROUPS + 5, length=4)
    two = dict(list(checkpoints.items())[:2])
    found = checkpoint_states(loaders(two), many)
    assert found.states.shape[2] == GROUPS and found.n_documents == len(many)
    alone = checkpoint_states(loaders(two), many[7::GROUPS])
    expected = torch.einsum("clgd,g->cld", alone.states, alone.sizes.float() / alone.sizes.sum())
    assert torch.allclose(found.states[:, :, 7], expected, atol=1e-5)


def made(checkpoints=4, groups=5, noise=0.01, seed=0):
    """A known path: along one direction, then along another, and documents that differ a lot."""
    draw = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(16, 2, generator=draw)).Q.T
    steps = torch.tensor([[0.0, 0.0], [3.0, 0.0], [6.0, 0.0], [6.0, 2.0]])[:checkpoints]
    documents = 10 * torch.randn(groups, 16, generator=draw)
    states = (steps @ axes)[:, None] + documents
    states = states + noise * torch.randn(states.shape, generator=draw)
    names = tuple(f"step-{10 * place}" for place in range(checkpoints))
    return CheckpointStates(names, states[:, None], torch.ones(groups)), steps


def test_components_follow_the_path_and_not_the_documents():
    states, steps = made()
    (layer,) = states.trajectory().layers
    assert layer.pca.groups.shape == (4, 5, 3) and layer.umap is None
    assert layer.variance[0] > layer.variance[1] > 0.05 > layer.variance[2]
    assert sum(layer.variance) == pytest.approx(1, abs=1e-3)
    assert torch.allclose(torch.pdist(layer.pca.path).float(), torch.pdist(steps), atol=0.05)


def test_equal_checkpoints_stay_where_they_are():
    states, _ = made(checkpoints=1, noise=0.0)
    states = CheckpointStates(("a", "b"), states.states.expand(2, -1, -1, -1), states.sizes)
    assert float(states.moved().high.abs().max()) == 0.0
    coordinates, variance = states.components(0)
    assert float(coordinates.abs().max()) < 1e-5 and sum(variance) <= 1 + 1e-9
    assert states.trajectory().steps is None


def test_two_checkpoints_and_one_document_have_fewer_components():
    states, _ = made(checkpoints=2, groups=1)
    coordinates, variance = states.components(0)
    assert coordinates.shape == (2, 1, 3) and variance[1:] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert states.moved().value.shape == (2, 1)


def test_umap_is_an_extra(monkeypatch):
    states, _ = made()
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(CircuitsError, match=r"circuit-discovery\[umap\]"):
        states.umap(0)


def test_umap_is_given_the_points_and_a_seed(monkeypatch):
    states, _ = made()
    seen = {}

    class UMAP:
        def __init__(self, **settings):
            seen.update(settings)

        def fit_transform(self, points):
            seen["points"] = points
            return points[:, :3]

    module = types.ModuleType("umap")
    module.UMAP = UMAP
    monkeypatch.setitem(sys.modules, "umap", module)
    found = states.umap(0, seed=3)
    assert found.shape == (4, 5, 3)
    assert seen["points"].shape == (20, 16) and seen["random_state"] == 3
    assert seen["n_components"] == 3 and seen["n_neighbors"] == 15
    assert abs(seen["points"].reshape(4, 5, 16).mean(axis=0)).max() < 1e-6
    assert states.trajectory(umap=True).layers[0].umap.path.shape == (4, 3)
    few, _ = made(checkpoints=2, groups=2)
    with pytest.raises(CircuitsError, match="4 points"):
        few.umap(0)


def test_refusals(checkpoints, hooked, pairs, model_folder):
    with pytest.raises(CircuitsError, match="at least two"):
        representation_trajectory({"base": lambda: hooked("gpt2")}, pairs)
    with pytest.raises(CircuitsError, match=r"base and long.*3 layers.*2 layers"):
        representation_trajectory(
            {"base": lambda: hooked("gpt2"), "long": lambda: hooked("gpt2-long")}, pairs
        )
