"""Hidden states of two models side by side, and where they go from checkpoint to checkpoint.

Layer l's hidden state is the residual stream after block l. For the path over checkpoints the state
of a document is the mean over its positions, and documents are kept as the means of at most
`GROUPS` groups: checkpoints x layers x groups x d_model numbers, however many the documents. What a
group's documents have in common at all checkpoints is removed, so that the path shows what training
moved and not how documents differ.

The plane (space) of the path is spanned by the first principal components of those group means;
UMAP (McInnes, Healy & Melville 2018), in three dimensions, is an extra: `pip install
'circuit-discovery[umap]'`. Only distances between near points mean something in it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.model_diff.attention import over_positions
from circuits.model_diff.averages import Averages
from circuits.model_diff.trace import run_body
from circuits.models import HookedModel
from circuits.models.hooks import Hooks
from circuits.models.steps import training_steps
from circuits.runtime.batching import over_batches
from circuits.runtime.resume import PartialResults, Pieces
from circuits.statistics import jackknife_interval
from tasks.pairs import PairBatch, PairSet

GROUPS = 20
COMPONENTS = 3


def relative_change(
    value: Float[Tensor, "batch pos d_model"], other: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos"]:
    """||value - other|| / ||other||; a vector shorter than 1e-6 counts as that long."""
    apart: Tensor = torch.linalg.vector_norm(value - other, dim=-1)
    size: Tensor = torch.linalg.vector_norm(other, dim=-1).clamp_min(1e-6)
    return apart / size


@dataclass(frozen=True)
class RepresentationTrajectory:
    """Mean hidden states of several checkpoints on the same documents.

    states: means of groups of documents. sizes: documents in each group.
    """

    checkpoints: tuple[str, ...]
    states: Float[Tensor, "checkpoint layer group d_model"]
    sizes: Float[Tensor, " group"]

    @property
    def documents(self) -> int:
        """Documents read at each checkpoint."""
        return int(self.sizes.sum())

    def moved(self) -> Averages:
        """How far each checkpoint's mean state lies from the first's, relative to its length.

        By checkpoint and layer; the interval leaves out one group at a time (jackknife).
        """
        value = _distance(self.states, self.sizes)
        if len(self.sizes) < 2:
            return Averages(value, value, value)
        kept = ~torch.eye(len(self.sizes), dtype=torch.bool)
        left_out = torch.stack([_distance(self.states, self.sizes * row) for row in kept])
        low, high = jackknife_interval(value.flatten(), left_out.flatten(1))
        return Averages(value, low.clamp_min(0).view_as(value), high.view_as(value))

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
        found = torch.zeros(*points.shape[:2], COMPONENTS, dtype=torch.float64)
        found[..., :count] = points @ (axes * turn).T
        power = length.square()
        total = float(power.sum()) or 1.0
        return found, [*(power[:count] / total).tolist(), *[0.0] * (COMPONENTS - count)]

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
        found = torch.tensor(reducer.fit_transform(flat), dtype=torch.float64)
        return found.view(*points.shape[:2], COMPONENTS)

    def mean(self, coordinates: Float[Tensor, "checkpoint group component"]) -> Tensor:
        """Each checkpoint's place: the mean over documents of its groups' coordinates."""
        weights = self.sizes.double() / self.sizes.sum()
        return torch.einsum("cgk,g->ck", coordinates.double(), weights)

    def to_dict(self, *, umap: bool = False, seed: int = 0) -> dict[str, Any]:
        """JSON form: distances, and the path on the components of each layer.

        steps: of training; None where the names do not tell them.
        """
        layers = []
        for layer in range(self.states.shape[1]):
            places, shares = self.components(layer)
            record: dict[str, Any] = {
                "path": self.mean(places).tolist(),
                "groups": places.tolist(),
                "variance": shares,
            }
            if umap:
                spread = self.umap(layer, seed=seed)
                record["umap"] = {
                    "path": self.mean(spread).tolist(),
                    "groups": spread.tolist(),
                }
            layers.append(record)
        return {
            "checkpoints": list(self.checkpoints),
            "steps": training_steps(self.checkpoints),
            "documents": self.documents,
            "moved": self.moved().to_dict(),
            "layers": layers,
        }

    def _centred(self, layer: int) -> Float[Tensor, "checkpoint group d_model"]:
        states = self.states[:, layer].double()
        return states - states.mean(dim=0)


def representation_trajectory(
    models: Mapping[str, Callable[[], HookedModel]],
    pairs: PairSet,
    *,
    batch_size: int | None = None,
    progress: bool = False,
    resume: Pieces | None = None,
) -> RepresentationTrajectory:
    """Read the clean prompts with each checkpoint in turn; one model is held at a time.

    models: how to load each, by name, in order. unfinished: keeps what was read until the whole is
    done, a piece a checkpoint. Raises CircuitsError for fewer than two, and for
    models of different shapes.
    """
    if len(models) < 2:
        raise CircuitsError("a path over checkpoints takes at least two of them")
    groups = min(GROUPS, len(pairs))
    member = torch.arange(len(pairs)) % groups
    sizes = member.bincount(minlength=groups).double()
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
        sums = _group_sums(
            model, pairs, member, groups, batch_size, name if progress else None, piece
        )
        states.append(sums / sizes[:, None])
    return RepresentationTrajectory(tuple(models), torch.stack(states).float(), sizes)


def _group_sums(
    model: HookedModel,
    pairs: PairSet,
    member: Tensor,
    groups: int,
    batch_size: int | None,
    progress: str | None,
    piece: PartialResults,
) -> Float[Tensor, "layer group d_model"]:
    total: Tensor | None = None
    if piece.path is not None:
        same = {
            "model": [model.fingerprint, str(model.hf.dtype)],
            "pairs": pairs.fingerprint,
            "batch size": batch_size,
        }
        total = piece.held(len(pairs), same).get("total")

    def work(batch: PairBatch) -> Tensor:
        found: list[Tensor] = []

        def note(x: Tensor) -> None:
            found.append(over_positions(x.transpose(1, 2), batch.mask).cpu())

        hooks = Hooks()
        for layer in model.view.layers:
            hooks.after(layer.block, note)
        with hooks:
            run_body(model, batch.clean)
        return torch.stack(found)  # layer batch d_model

    done = over_batches(
        model,
        pairs,
        work,
        batch_size=batch_size,
        done=piece.done if len(piece.done) else None,
        progress=progress,
    )
    for batch, means in done:
        if total is None:
            total = torch.zeros(len(means), groups, means.shape[2], dtype=torch.float64)
        if piece.path is None:
            total.index_add_(1, member[batch.index.cpu()], means)
            continue
        with piece.taking(batch.index):
            total.index_add_(1, member[batch.index.cpu()], means)
            piece.hold({"total": total})
    piece.write()
    assert total is not None
    return total


def _distance(
    states: Float[Tensor, "checkpoint layer group d_model"], sizes: Float[Tensor, " group"]
) -> Float[Tensor, "checkpoint layer"]:
    means = torch.einsum("clgd,g->cld", states.double(), sizes.double() / sizes.sum())
    apart: Tensor = torch.linalg.vector_norm(means - means[0], dim=-1)
    size: Tensor = torch.linalg.vector_norm(means[0], dim=-1).clamp_min(1e-12)
    return apart / size


def require_umap() -> Any:
    """The package umap-learn; a CircuitsError says how to install it where it is missing."""
    try:
        return importlib.import_module("umap")
    except ImportError as error:
        raise CircuitsError(
            "UMAP needs the package umap-learn, which is not installed: pip install "
            "'circuit-discovery[umap]'; principal components need nothing"
        ) from error
