"""What a model answers about one prompt pair: exact, and without running again what it has run.

Both runs of the pair are kept, so a click costs the layers behind what was clicked. They are made
twice: whole, for places, and without what the prompts share, for edges. Directions are
those of `circuits.patch`: "noise" puts the corrupted value into the clean run, "denoise" the clean
value into the corrupted run. recovery = (value - corrupted) / (clean - corrupted), as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.explorer.contents import EdgeNumbers
from circuits.explorer.live.typed import swapped
from circuits.graph import Circuit
from circuits.graph.node import Node
from circuits.intervention.batched_runner import BatchedCircuitRunner
from circuits.intervention.patching.grid import SweepGrid
from circuits.intervention.patching.paired_runs import PairedRuns, Side
from circuits.intervention.patching.sites import site_named
from circuits.intervention.patching.sweep import BatchSweep
from circuits.intervention.recorded_runs import RecordedRuns
from circuits.metrics import Logits, Metric, metric_for
from circuits.models import HookedModel
from circuits.options.choices import Direction, SiteName
from circuits.options.patching import PatchSpec
from circuits.planning.counter import storages
from circuits.runtime.limits import HELD_DIFFERENCES_LIVE
from tasks.pairs import PairBatch, PairSet

TOP = 10
_TOKENS = {"cpu": 512}  # in one pass of a sweep, as `circuits.patch` has them
_TOKENS_ELSEWHERE = 8192
_RECORDED: tuple[SiteName, ...] = (
    "resid_pre", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v",
)  # fmt: skip
_RUNS = ("runs", "_recorded_runs", "clean_runner", "corrupted_runner")
"""What a `LivePair` keeps of its runs, each made when it is first asked for."""


@dataclass(frozen=True)
class TopToken:
    """One of the likeliest next tokens.

    change: of its logit, where the run is held beside another; else None.
    """

    id: int
    text: str
    probability: float
    logit: float
    change: float | None = None


@dataclass(frozen=True)
class Answered:
    """What one patched run gives.

    value: of the metric. recovery: the share of the gap between clean and corrupted; None where
    there is no gap. tops: the likeliest next tokens, with the change of their logits beside the run
    that was patched.
    """

    value: float
    recovery: float | None
    tops: tuple[TopToken, ...]


@dataclass(frozen=True)
class NodeSaid:
    """What one node does on the pair.

    pattern: of a head, the clean prompt's attention, a row a query; None elsewhere. direct: what
    its edge into the logits does when it alone is corrupted; None where it has no such edge. moved:
    the tokens whose logits that changes most, the largest change first.
    """

    pattern: list[list[float]] | None
    direct: Answered | None
    moved: tuple[TopToken, ...]


@dataclass
class LivePair:
    """A model and one prompt pair.

    pairs: a set of that pair. n_bytes: what it kept when it was last weighed.
    """

    model: HookedModel
    pairs: PairSet
    n_bytes: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.model.validate(self.pairs)
        self.judge = metric_for(self.pairs)
        self.batch = self.pairs.batch([0]).to(self.model.device)

    @cached_property
    def runs(self) -> PairedRuns:
        """Clean and corrupted run, for patches of sites."""
        return PairedRuns(self.model, self.batch, _RECORDED if self._has_places else ())

    def weigh(self) -> None:
        """Count what is kept now, as `n_bytes`."""
        self.n_bytes = sum(storages(self._tensors()).values())

    def release(self) -> None:
        """Let go of all that was run; what is asked for next makes it again."""
        for name in _RUNS:
            self.__dict__.pop(name, None)
        self.weigh()

    def _tensors(self) -> Iterator[Tensor]:
        for name in _RUNS:
            if (kept := self.__dict__.get(name)) is not None:
                yield from kept.tensors()

    @property
    def _has_places(self) -> bool:
        return self.model.layout.n_encoder_layers == 0

    @cached_property
    def _recorded_runs(self) -> RecordedRuns | None:
        """Both runs, for circuits; None where each circuit is run by itself."""
        return RecordedRuns.of(self.model, self.batch) if self.model.view.sequential else None

    @cached_property
    def clean_runner(self) -> BatchedCircuitRunner:
        """Runs the clean prompt with edges corrupted."""
        return BatchedCircuitRunner(
            self.model,
            self.batch,
            alike=False,
            held=HELD_DIFFERENCES_LIVE,
            runs=self._recorded_runs,
        )

    @cached_property
    def corrupted_runner(self) -> BatchedCircuitRunner:
        """Runs the corrupted prompt with edges restored, one at a time: a sum of one source."""
        batch = swapped(self.pairs).batch([0]).to(self.model.device)
        runs = self._recorded_runs and self._recorded_runs.swapped()
        return BatchedCircuitRunner(self.model, batch, alike=False, held=0, runs=runs)

    @property
    def clean(self) -> Float[Tensor, "read vocab"]:
        """Logits of the clean run."""
        return self._logits("clean")

    @property
    def corrupted(self) -> Float[Tensor, "read vocab"]:
        """Logits of the corrupted run."""
        return self._logits("corrupted")

    def _logits(self, side: Side) -> Float[Tensor, "read vocab"]:
        if self._has_places:
            self.runs.base(side)  # the run that patches go on from has these logits too
        return self.runs.logits(side)

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The metric of the clean and of the corrupted run."""
        return self.value(self.clean), self.value(self.corrupted)

    def prepare(self) -> Iterator[None]:
        """Make what clicks start from, a run at a time."""
        sides: tuple[Side, Side] = ("clean", "corrupted")
        for side in sides:
            self._logits(side)
            yield
        _ = self.clean_runner
        yield
        _ = self.corrupted_runner
        yield

    def value(self, logits: Float[Tensor, "read vocab"]) -> float:
        """The metric of a run."""
        return float(self.judge(logits, self.batch, self.clean)[0])

    def recovery(self, value: float) -> float | None:
        """The share of the gap; None where clean and corrupted agree."""
        clean, corrupted = self.ends
        gap = clean - corrupted
        if abs(gap) <= 1e-6 * max(abs(clean), abs(corrupted), 1e-6):
            return None
        return (value - corrupted) / gap

    def tops(
        self, logits: Float[Tensor, "read vocab"], beside: Float[Tensor, "read vocab"] | None = None
    ) -> tuple[TopToken, ...]:
        """The likeliest tokens at the first answer position.

        beside: another run; its logits are taken off for `change`.
        """
        row = logits[0]
        change = None if beside is None else row - beside[0]
        return self._listed(row, change, by=row)

    def _listed(
        self,
        row: Float[Tensor, " vocab"],
        change: Float[Tensor, " vocab"] | None,
        *,
        by: Float[Tensor, " vocab"],
    ) -> tuple[TopToken, ...]:
        """The first tokens by a number of each."""
        probability = row.softmax(dim=0)
        decode = self.model.tokenizer.decode
        return tuple(
            TopToken(
                token,
                str(decode([token])),
                float(probability[token]),
                float(row[token]),
                None if change is None else float(change[token]),
            )
            for token in by.topk(min(TOP, len(row))).indices.tolist()
        )

    def answered(
        self, logits: Float[Tensor, "read vocab"], beside: Float[Tensor, "read vocab"]
    ) -> Answered:
        """What a patched run gives, beside the run that was patched."""
        value = self.value(logits)
        return Answered(value, self.recovery(value), self.tops(logits, beside))

    def edge(self, name: str, direction: Direction) -> Answered:
        """One edge alone: corrupted in the clean run, or restored in the corrupted one."""
        return self.answered(self._edge_logits(name, direction), self._patched(direction))

    def _edge_logits(self, name: str, direction: Direction) -> Float[Tensor, "read vocab"]:
        keep = self.model.layout.mask.clone()
        keep[self.model.layout.edge(name)] = False
        runner = self.clean_runner if direction == "noise" else self.corrupted_runner
        return runner.logits(keep[None])[0]

    def _patched(self, direction: Direction) -> Float[Tensor, "read vocab"]:
        """The run that a patch goes into."""
        return self.clean if direction == "noise" else self.corrupted

    def circuit(self, mask: Bool[Tensor, "source reader"]) -> Answered:
        """The clean prompt with only these edges left."""
        logits = self.clean_runner.logits(mask[None])[0]
        return self.answered(logits, self.clean)

    def sweep(self, spec: PatchSpec, *judges: Metric) -> BatchSweep:
        """A sweep over sites; its `run()` does the work in steps.

        judges: read the runs besides the pair's own metric.
        """
        grid = SweepGrid.of(self.model, self.pairs, spec)
        fit = _TOKENS.get(self.model.device.type, _TOKENS_ELSEWHERE)
        return BatchSweep(self.runs, grid, [self.judge, *judges], fit)

    def site(self, spec: PatchSpec) -> Answered:
        """All places that a request names, patched at once."""
        base = self._patched(spec.direction)
        all_logits = [base]

        def keep(logits: Logits, _: PairBatch, __: Logits) -> Float[Tensor, " batch"]:
            all_logits.append(logits)
            return logits.new_zeros(1)

        sweep = self.sweep(replace(spec, sweep=("layer",)), Metric("kept", keep))
        del all_logits[1:]  # the unpatched runs, which the sweep has read as well
        for _ in sweep.run():
            pass
        return self.answered(all_logits[-1], base)

    def node(self, name: str) -> NodeSaid:
        """A head's attention on the clean prompt, and what a node does straight to the logits."""
        layout = self.model.layout
        if name not in layout.nodes:
            raise CircuitsError(f"{name!r}: no node of this model ({layout.summary})")
        node = Node.parse(name)
        if name == "logits" or node.encoder:
            return NodeSaid(self._pattern(node), None, ())
        logits = self._edge_logits(f"{name}->logits", "noise")
        change = (logits - self.clean)[0]
        moved = self._listed(logits[0], change, by=change.abs())
        return NodeSaid(self._pattern(node), self.answered(logits, self.clean), moved)

    def _pattern(self, node: Node) -> list[list[float]] | None:
        plain = node.kind == "head" and not self.model.layout.n_encoder_layers
        if not plain or node.layer is None or node.head is None:
            return None
        pattern = self.runs.donor(site_named("pattern"), "clean", [node.layer])[node.layer]
        rows: list[list[float]] = pattern[0, :, node.head].float().tolist()
        return rows


def circuit_of(model: HookedModel, edges: Sequence[int]) -> Circuit:
    """A circuit from the numbers that the page counts edges by."""
    numbers = EdgeNumbers.of(model.layout)
    indices = torch.tensor(edges, dtype=torch.long)
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(numbers.flat):
        raise CircuitsError(f"this model has {len(numbers.flat)} edges, numbered from 0")
    return Circuit.empty(model.layout).with_only(numbers.flat[indices])
