"""EAP-IG (activations): the outputs of one layer's heads, or of one MLP, moved at a time.

The prompt is clean; the sources of one group (the embedding, the heads of one attention, an MLP)
are given outputs on the straight line from their corrupted to their clean ones, and the gradient
is taken at every reader. `gradients="all"` scores every edge by the mean over all groups and
points, as the EAP-IG repository and MIB do; "own" takes for the edges out of a group only the
points at which that group itself moved, the integrated gradient of the source's own output.

Source: Hanna, Pezzelle & Belinkov (2024), "Have Faith in Faithfulness", and their repository, which
takes the points k/m, k = 1 .. m (quadrature "right"). Cost: `steps` forward and backward passes for
each of 1 + 2 x layers groups, and two forwards. The scores do not add up along a path, so there is
no estimate of their error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from circuits.attribution.batch_scores import BatchScores
from circuits.attribution.engine import integrated
from circuits.attribution.method import GradientMethod
from circuits.attribution.passes import Passes, Point, points_of
from circuits.attribution.quadrature import Rule, rule
from circuits.errors import CircuitsError
from circuits.metrics import Metric
from circuits.models import HookedModel, SourceActivations, View
from circuits.models.hooks import Hooks
from circuits.options.choices import Quadrature
from circuits.planning.costs import activations_phases, activations_work
from circuits.planning.jobs import CostModel
from tasks.pairs import PairBatch

GRADIENTS = ("all", "own")


@dataclass(frozen=True)
class EAPIGActivations(GradientMethod):
    """steps: points for each group. quadrature: where they lie. gradients: "all" or "own"."""

    name: ClassVar[str] = "eap-ig-activations"
    cost: ClassVar[CostModel] = CostModel(
        "eap-ig-activations",
        "the same along the activations of one group of sources at a time",
        activations_phases,
        activations_work,
        5,
        counted=True,
        splits=True,
        recomputes=True,
    )
    steps: int = 5
    quadrature: Quadrature = "midpoint"
    gradients: str = "all"

    def __post_init__(self) -> None:
        rule(self.quadrature, self.steps)
        if self.gradients not in GRADIENTS:
            raise CircuitsError(
                f"unknown gradients {self.gradients!r}; known: {', '.join(GRADIENTS)}"
            )

    @property
    def quadrature_rule(self) -> Rule:
        """The points of each group's own line."""
        return rule(self.quadrature, self.steps)

    def scores(
        self,
        model: HookedModel,
        batch: PairBatch,
        metric: Metric,
        progress: bool = False,
        *,
        recompute: bool = False,
    ) -> BatchScores:
        """Scores of every edge for every example; units of the metric."""
        runs = [_Written(model.view) for _ in range(2)]
        records = (runs[0].record, runs[1].record)
        passes = Passes(model, batch, metric, records, recompute=recompute)
        clean, corrupted = (run.states for run in runs)
        outputs = [clean.subtract(corrupted)] if model.view.linear else [clean, corrupted]
        groups = list(_groups(model.view))
        points = points_of(self.quadrature_rule)
        total = torch.zeros(len(batch), *model.layout.shape, device=model.device)
        bar = tqdm(groups, desc="moving activations", leave=False, disable=not progress)
        for rows, module in bar:
            moved = points if module is None else [_moving(runs, module, at) for at in points]
            group_scores = integrated(passes, outputs, moved)
            if self.gradients == "own":
                total[:, rows] = group_scores[:, rows]
            else:
                total += group_scores / len(groups)
        return BatchScores(total, passes.clean, passes.corrupted)


class _Written:
    """What the sources put out in one run, and what each module wrote to the stream."""

    def __init__(self, view: View) -> None:
        self.view, self.states = view, SourceActivations(view)
        self.outputs: dict[nn.Module, Tensor] = {}

    def record(self, hooks: Hooks) -> None:
        """Fill this object during the run that `hooks` are in place for."""
        self.states.record(hooks)
        for _, module in _groups(self.view):
            if module is not None:
                hooks.after(module, partial(self._keep, module))

    def _keep(self, module: nn.Module, x: Tensor) -> None:
        self.outputs[module] = x.detach().clone()  # the states' own are subtracted in place


def _groups(view: View) -> Iterator[tuple[list[int], nn.Module | None]]:
    """Rows of the sources that move together, and the module that writes them; None: embedding."""
    yield list(view.layout.roots), None
    for attention in view.attentions:
        rows = list(range(attention.place.rows.start, attention.place.rows.stop))
        yield rows, attention.output if attention.post is None else attention.post.module
    for mlp in view.mlps:
        yield [mlp.place.row], mlp.output


def _moving(runs: list[_Written], module: nn.Module, at: Point) -> Point:
    """A run on the clean prompt with one module's output at a point of its own line."""
    clean, corrupted = (run.outputs[module] for run in runs)

    def edit(hooks: Hooks) -> None:
        hooks.after(module, lambda _: torch.lerp(corrupted, clean, at.node))

    return Point(1.0, at.weight, edit)
