"""Where hidden states go from checkpoint to checkpoint.

Layer l's hidden state is the residual stream after block l. The state of a document is the mean
over its positions, and documents are kept as the means of at most `GROUPS` groups: checkpoints x
layers x groups x d_model numbers, however many the documents. What a group's documents have in
common at all checkpoints is removed, so that the trajectory shows what training moved and not how
documents differ.

The plane (space) of the trajectory is spanned by the first principal components of those group
means; UMAP (McInnes, Healy & Melville 2018), in three dimensions, is an extra: `pip install
'circuit-discovery[umap]'`. Only distances between near points mean something in it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.model_diff.attention import over_positions
from circuits.model_diff.trace import run_body
from circuits.models import HookedModel
from circuits.models.hooks import Hooks
from circuits.models.steps import training_steps
from circuits.options.run import RunOptions
from circuits.runtime.batching import over_batches
from circuits.runtime.result_file import AsList, Record
from circuits.runtime.resume import PartialResults, Pieces
from circuits.statistics import jackknife_interval
from circuits.statistics.estimate import Estimates
from tasks.pairs import PairBatch, PairSet

GROUPS = 20
COMPONENTS = 3


class Projection(Record):
    """One layer's hidden states in three dimensions.

    path: each checkpoint, the mean over its documents. groups: each group of documents.
    """

    path: Annotated[Float[Tensor, "checkpoint component"], AsList()]
    groups: Annotated[Float[Tensor, "checkpoint group component"], AsList()]


class LayerTrajectory(Record):
    """One layer's trajectory.

    pca: on the first three principal components. variance: the share of the variance that each of
    them holds. umap: None where it was not asked for.
    """

    pca: Projection
    variance: tuple[float, ...]
    umap: Projection | None = None


class RepresentationTrajectory(Record):
    """Where the hidden states of each layer go from checkpoint to checkpoint.

    steps: of training; None where the names of the checkpoints do not tell them.
    moved: how far each checkpoint's mean state lies from the first's, relative to the length of
    the first's, by checkpoint and layer; the intervals leave out one group of documents at a time.
    """

    checkpoints: tuple[str, ...]
    steps: tuple[int, ...] | None
    n_documents: int
    moved: Estimates
    layers: tuple[LayerTrajectory, ...]


@dataclass(frozen=True)
class CheckpointStates:
    """Mean hidden states of several checkpoints on the same documents.

    states: means of groups of documents. sizes: documents in each group.
    """

    checkpoints: tuple[str, ...]
    states: Float[Tensor, "checkpoint layer group d_model"]
    sizes: Float[Tensor, " group"]

    @property
    def n_documents(self) -> int:
        """Documents read at each checkpoint."""
        return int(self.sizes.sum())

    def moved(self) -> Estimates:
        """How far each checkpoint's mean state lies from the first's, relative to its length.

        By checkpoint and layer; the interval leaves out one group at a time (jackknife).
        """
        value = _distance(self.states, self.sizes)
        if len(self.sizes) < 2:
            return Estimates(value, value, value, self.n_documents)
        kept = ~torch.eye(len(self.sizes), dtype=torch.bool)
        left_out = torch.stack([_distance(self.states, self.sizes * row) for row in kept])
        low, high = jackknife_interval(value.flatten(), left_out.flatten(1))
        low, high = low.clamp_min(0).view_as(value), high.view_as(value)
        return Estimates(value, low, high, self.n_documents)

    def components(
        self, layer: int
    ) -> tuple[Float[Tensor, "checkpoint group component"], list[float]]:
        """Coordinates on the first three principal components, and their shares of the variance.

        A component's sign is the one that its largest loading takes as positive.
        """
        points = self._centred(layer)
        flat = points.flatten(0, 1)
        weights = self.sizes.double().repeat(len(points)).sqrt()[:, None]
        _, length, right = torch.linalg.svd(weights * flat, full_matrices=False)
        count = min(COMPONENTS, len(length))
        axes = right[:count]
        turn = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
        coordinates = torch.zeros(*points.shape[:2], COMPONENTS, dtype=torch.float64)
        coordinates[..., :count] = points @ (axes * turn).T
        power = length.square()
        total = float(power.sum()) or 1.0
        return coordinates, [*(power[:count] / total).tolist(), *[0.0] * (COMPONENTS - count)]

    def umap(self, layer: int, *, seed: int = 0) -> Float[Tensor, "checkpoint group component"]:
        """The same points in UMAP's three dimensions.

        Raises CircuitsError without the package umap-learn, or with fewer than 5 points.
        """
        umap = require_umap()
        points = self._centred(layer)
        flat = points.flatten(0, 1).numpy()
        if len(flat) < COMPONENTS + 2:
            raise CircuitsError(
                f"UMAP of {len(flat)} points: it takes at least {COMPONENTS + 2}; more documents "
                "or more checkpoints"
            )
        reducer = umap.UMAP(
            n_components=COMPONENTS,
            n_neighbors=min(15, len(flat) - 1),
            init="random" if len(flat) < 15 else "spectral",
            random_state=seed,
            n_jobs=1,
        )
        coordinates = torch.tensor(reducer.fit_transform(flat), dtype=torch.float64)
        return coordinates.view(*points.shape[:2], COMPONENTS)

    def trajectory(self, *, umap: bool = False, seed: int = 0) -> RepresentationTrajectory:
        """The trajectory of every layer. umap: also by UMAP, with this seed."""
        layers = []
        for layer in range(self.states.shape[1]):
            coordinates, variance = self.components(layer)
            layers.append(
                LayerTrajectory(
                    pca=self._projection(coordinates),
                    variance=tuple(variance),
                    umap=self._projection(self.umap(layer, seed=seed)) if umap else None,
                )
            )
        steps = training_steps(self.checkpoints)
        return RepresentationTrajectory(
            checkpoints=self.checkpoints,
            steps=None if steps is None else tuple(steps),
            n_documents=self.n_documents,
            moved=self.moved(),
            layers=tuple(layers),
        )

    def _projection(self, groups: Float[Tensor, "checkpoint group component"]) -> Projection:
        weights = self.sizes.double() / self.sizes.sum()
        return Projection(path=torch.einsum("cgk,g->ck", groups.double(), weights), groups=groups)

    def _centred(self, layer: int) -> Float[Tensor, "checkpoint group d_model"]:
        states = self.states[:, layer].double()
        return states - states.mean(dim=0)


def representation_trajectory(
    models: Mapping[str, Callable[[], HookedModel]],
    pairs: PairSet,
    *,
    umap: bool = False,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> RepresentationTrajectory:
    """Read the clean prompts with each checkpoint in turn, and follow the hidden states.

    Args:
        models: how to load each checkpoint, by name, in order. One model is held at a time.
        pairs: whose clean prompts are read.
        umap: also project the states by UMAP.
        options: batches, the seed of UMAP, and progress.
        resume: keeps what was read until the whole is done, a piece for each checkpoint.

    Returns:
        The trajectory of every layer on its principal components, and how far each layer moved.

    Raises:
        CircuitsError: for fewer than two checkpoints, models of different shapes, and for UMAP
            where umap-learn is not installed or there are fewer than 5 points.
    """
    options = options or RunOptions()
    states = checkpoint_states(models, pairs, options=options, resume=resume)
    return states.trajectory(umap=umap, seed=options.seed)


def checkpoint_states(
    models: Mapping[str, Callable[[], HookedModel]],
    pairs: PairSet,
    *,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> CheckpointStates:
    """The mean hidden states of each checkpoint; arguments as of `representation_trajectory`."""
    options = options or RunOptions()
    if len(models) < 2:
        raise CircuitsError("a trajectory over checkpoints takes at least two of them")
    n_groups = min(GROUPS, len(pairs))
    member = torch.arange(len(pairs)) % n_groups
    sizes = member.bincount(minlength=n_groups).double()
    states: list[Tensor] = []
    first = ""
    for name, load in models.items():
        model = load()
        summary = f"{model.layout.summary}, {model.hf.config.get_text_config().hidden_size} wide"
        if states and summary != first:
            raise CircuitsError(
                f"{next(iter(models))} and {name} are models of different shapes: {first}; and "
                f"{summary}"
            )
        first = summary
        piece = (resume or Pieces()).tensors()
        label = name if options.progress else None
        sums = _group_sums(model, pairs, member, options, label, piece)
        states.append(sums / sizes[:, None])
    return CheckpointStates(tuple(models), torch.stack(states).float(), sizes)


def _group_sums(
    model: HookedModel,
    pairs: PairSet,
    member: Tensor,
    options: RunOptions,
    progress: str | None,
    piece: PartialResults,
) -> Float[Tensor, "layer group d_model"]:
    """Sums of the documents' mean states; `member` says which group each document is in."""
    total: Tensor | None = None
    if piece.path is not None:
        identity = {
            "model": [model.fingerprint, str(model.hf.dtype)],
            "pairs": pairs.fingerprint,
            "batch size": options.batch_size,
        }
        total = piece.load(len(pairs), identity).get("total")

    done = over_batches(
        model,
        pairs,
        _mean_states,
        batch_size=options.batch_size,
        done=piece.done if len(piece.done) else None,
        progress=progress,
        engine=options.engine,
    )
    for batch, means in done:
        if total is None:
            n_groups = int(member.max()) + 1
            total = torch.zeros(len(means), n_groups, means.shape[2], dtype=torch.float64)
        if piece.path is None:
            total.index_add_(1, member[batch.index.cpu()], means)
            continue
        with piece.taking(batch.index):
            total.index_add_(1, member[batch.index.cpu()], means)
            piece.hold({"total": total})
    piece.write()
    assert total is not None
    return total


def _mean_states(model: HookedModel, batch: PairBatch) -> Float[Tensor, "layer batch d_model"]:
    """The work on a batch: each document's mean state in every layer."""
    by_layer: list[Tensor] = []

    def note(x: Tensor) -> None:
        by_layer.append(
            over_positions(rearrange(x, "batch pos d -> batch d pos"), batch.mask).cpu()
        )

    hooks = Hooks()
    for layer in model.view.layers:
        hooks.after(layer.block, note)
    with hooks:
        run_body(model, batch.clean)
    return torch.stack(by_layer)


def _distance(
    states: Float[Tensor, "checkpoint layer group d_model"], sizes: Float[Tensor, " group"]
) -> Float[Tensor, "checkpoint layer"]:
    means = torch.einsum("clgd,g->cld", states.double(), sizes.double() / sizes.sum())
    distance: Tensor = torch.linalg.vector_norm(means - means[0], dim=-1)
    size: Tensor = torch.linalg.vector_norm(means[0], dim=-1).clamp_min(1e-12)
    return distance / size


def require_umap() -> ModuleType:
    """The package umap-learn; a CircuitsError says how to install it where it is missing."""
    try:
        return importlib.import_module("umap")
    except ImportError as error:
        raise CircuitsError(
            "UMAP needs the package umap-learn, which is not installed: pip install "
            "'circuit-discovery[umap]'; principal components need nothing"
        ) from error
