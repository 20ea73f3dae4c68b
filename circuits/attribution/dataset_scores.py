"""The scores of a set of pairs from those of its batches: means, blocks, what is said of them.

The set is taken as a whole, or in growing parts (`Growth`), after each of which the scores so far
say how far to go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.attribution.batch_scores import describe_error
from circuits.attribution.batch_sums import BatchSums, Work, summed
from circuits.attribution.method import Method
from circuits.errors import CircuitsError
from circuits.graph import AnyScores
from circuits.graph.blocks import COUNT, Blocks, block_of
from circuits.graph.provenance import Provenance
from circuits.metrics import Metric, metric_for
from circuits.models import HookedModel
from circuits.options.engine import RayEngine
from circuits.options.run import RunOptions
from circuits.planning import choose_batch_size, choose_recomputation
from circuits.provenance import describe_model, describe_pairs, versions
from circuits.runtime.batching import over_batches
from circuits.runtime.example_rows import ExampleRows, room
from circuits.runtime.notices import say
from circuits.runtime.resume import PartialResults
from tasks.pairs import PairSet

PARTS = 64
"""Parts that a set grows in, at most; the last one takes all that is left."""
KEPT_BYTES = 2**30
"""Scores of single examples are kept by default up to 1 GiB (of float32): 8,000 examples of GPT-2
small's 32,491 edges."""
KEPT_SHARE = 0.25
"""Where they go to disk as they come, up to this share of what is free there: saving them takes
their size a second time."""


@dataclass(frozen=True)
class Growth:
    """How many of the pairs to score, by what the scores so far say.

    first: examples to begin with.
    more: from the scores of the first examples to how many to go on to, in all; no more than there
        are so far ends it. Called again with the same scores, it has to say the same.
    settings: JSON values that it depends on; unfinished work with others is not gone on with.
    """

    first: int
    more: Callable[[AnyScores], int]
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.first < 1:
            raise CircuitsError(f"{self.first} examples to begin with; it must be at least 1")

    def over(self, pairs: PairSet) -> GrowingPairs:
        """These pairs, to be scored as far as this says.

        Args:
            pairs: all that may be scored.

        Returns:
            What `attribute` takes in place of the pairs.
        """
        return GrowingPairs(pairs, self)


@dataclass(frozen=True)
class GrowingPairs:
    """Pairs of which the first ones are scored, as many as the scores so far ask for."""

    pairs: PairSet
    growth: Growth


@dataclass(frozen=True)
class DatasetScores:
    """Scores of a set: their mean, examples' or blocks' scores, and what is said of them."""

    mean: Tensor
    per_example: Float[Tensor, "example ..."] | None
    blocks: Blocks | None
    provenance: Provenance


@dataclass(frozen=True)
class Scoring:
    """What is scored, by which method, and what is kept.

    pairs: all that may be scored; growth: how many of them are, None for all.
    per_example: keep each example's scores; None keeps them up to `KEPT_BYTES`, or up to
        `KEPT_SHARE` of the disk where `resume` has a place there.
    resume: keeps what is done so far in files.
    recompute: whether layers are run again in backward passes.
    """

    model: HookedModel
    pairs: PairSet
    growth: Growth | None
    method: Method
    metric: Metric
    options: RunOptions
    per_example: bool | None
    resume: PartialResults
    recompute: bool

    @classmethod
    def of(
        cls,
        model: HookedModel,
        pairs: PairSet | GrowingPairs,
        method: Method,
        metric: str | None,
        options: RunOptions | None,
        per_example: bool | None,
        resume: PartialResults | None,
    ) -> Scoring:
        """From what `attribute` is given."""
        growth = None
        if isinstance(pairs, GrowingPairs):
            growth, pairs = pairs.growth, pairs.pairs
        options = options or RunOptions()
        return cls(
            model,
            pairs,
            growth,
            method,
            metric_for(pairs, metric),
            options,
            per_example,
            resume or PartialResults(),
            choose_recomputation(model, pairs, method.cost, options.recompute),
        )

    def keeps(self, shape: tuple[int, ...]) -> bool:
        """Whether each example's scores, of this shape, are kept."""
        size, rows = 4 * len(self.pairs) * math.prod(shape), self.resume.rows_path
        free = None if rows is None else room(rows)
        if self.per_example is not None:
            if self.per_example and free is not None and 2 * size > free:
                raise CircuitsError(
                    f"{rows}: the scores of single examples take {size / 2**30:.1f} GiB, and as "
                    f"much again while they are saved; {free / 2**30:.1f} GiB are free. Make room, "
                    "score fewer pairs, or leave them out (per_example=False, --no-per-example)"
                )
            return self.per_example
        begun = self.resume.recorded("per_example")
        if begun is not None:  # by then its rows take a part of what was free
            return bool(begun)
        if size <= KEPT_BYTES or (free is not None and size <= KEPT_SHARE * free):
            return True
        most = "1 GiB" if free is None else f"a quarter of the {free / 2**30:.1f} GiB free on disk"
        say(
            f"the scores of single examples would take {size / 2**30:.1f} GiB, more than {most}, "
            "and are left out, so there will be no intervals and no comparison with other scores; "
            "keep them with per_example=True (--per-example)"
        )
        return False


def score_dataset(
    scoring: Scoring,
    what: str,
    work: Work,
    shape: tuple[int, ...],
    to_scores: Callable[[DatasetScores], AnyScores],
) -> DatasetScores:
    """Score pairs, batch by batch: all of them, or the first ones, as many as `growth` says.

    Args:
        scoring: what is scored, and how.
        what: a name for it, on the progress bar.
        work: the scores of a batch by a model; it can be pickled.
        shape: of one example's scores.
        to_scores: scores as others know them, for `growth`.
    """
    model, pairs, growth = scoring.model, scoring.pairs, scoring.growth
    method, metric, resume = scoring.method, scoring.metric, scoring.resume
    model.validate(pairs)
    method.validate(model, pairs, metric)
    batch_size = scoring.options.batch_size
    if batch_size is None:
        steps = getattr(method, "steps", None)
        batch_size = choose_batch_size(
            model, pairs, method.cost, steps, recompute=scoring.recompute
        )
    per_example = scoring.keeps(shape)
    progress = f"scoring {what} ({method.name})" if scoring.options.progress else None
    made_from = Provenance(
        settings={key: value for key, value in vars(method).items() if value is not None},
        metric=metric.name,
        batch_size=batch_size,
        data=describe_pairs(pairs),
        pairs=tuple(pairs.fingerprints),
        model=describe_model(model),
        versions=versions(),
        begin=model.missing_begin(pairs),
    )
    rows = None
    if per_example and resume.rows_path is not None:
        rows = ExampleRows(resume.rows_path, len(pairs), shape)
    sums = _Sums.of(pairs, shape, rows, per_example=per_example)
    parts = torch.zeros(PARTS, dtype=torch.long)
    resume.restore(
        len(pairs),
        {
            **made_from.model_dump(mode="json"),
            "method": method.name,
            "shape": shape,
            "per_example": per_example,
            "blocks": COUNT,
            **({} if growth is None else {"growth": {"first": growth.first, **growth.settings}}),
            # Of decoders the bytes are the same; an encoder's gradient is summed in another order.
            **({"recompute": True} if scoring.recompute and model.layout.n_encoder_layers else {}),
        },
        {**sums.tensors, **({} if growth is None else {"parts": parts})},
        rows,
    )

    def so_far(end: int) -> DatasetScores:
        taken = pairs if end == len(pairs) else pairs[:end]
        pairs_taken = tuple(taken.fingerprints)
        return sums.gathered(end, made_from.extended(data=describe_pairs(taken), pairs=pairs_taken))

    end = 0
    for start, end in _parts(parts, len(pairs), growth, lambda end: to_scores(so_far(end))):
        _take(
            model,
            pairs[start:end],
            start,
            work,
            sums,
            resume,
            batch_size,
            progress if progress is None or not start else f"{progress}, from {start}",
            scoring.options.engine,
        )
    return so_far(end)


def _take(
    model: HookedModel,
    pairs: PairSet,
    start: int,
    work: Work,
    sums: _Sums,
    resume: PartialResults,
    batch_size: int,
    progress: str | None,
    engine: RayEngine | None,
) -> None:
    """Add a part's scores to the sums. start: its first example's place in the whole set."""
    shared = None if engine is None or sums.rows is None else sums.rows.shared()
    for batch, batch_sums in over_batches(
        model,
        pairs,
        partial(summed, work, start, shared),
        batch_size=batch_size,
        done=resume.done[start : start + len(pairs)],
        progress=progress,
        engine=engine,
    ):
        indices = batch.index.cpu() + start
        sums.keep(indices, batch_sums)
        with resume.taking(indices):
            sums.add(indices, batch_sums)


def _parts(
    ends: Int[Tensor, " part"],
    n: int,
    growth: Growth | None,
    scores: Callable[[int], AnyScores],
) -> Iterator[tuple[int, int]]:
    """Where each part begins and ends. `ends` holds what was decided, and takes what is: work that
    goes on asks nothing twice, as by then it knows more than when it was asked.
    """
    start = 0
    for part in range(PARTS):
        if not ends[part]:
            if growth is None or part == PARTS - 1:
                ends[part] = n
            else:
                asked = growth.more(scores(start)) if start else growth.first
                ends[part] = max(start, min(asked, n))
        if int(ends[part]) == start:
            return
        yield start, int(ends[part])
        start = int(ends[part])
        if start == n:
            return


@dataclass(frozen=True)
class _Sums:
    """What is kept of all examples: sums, and what each is known by.

    rows: scores of each example where they go to disk. total: of scores. kept: scores of each
    example where they stay in memory. sums: of blocks, where single examples are not kept.
    ends: the metric, clean and corrupted. path: error and gradients. doubt, stands_for: of
    `PathScores`.
    """

    rows: ExampleRows | None
    total: Float[Tensor, "*unit"]
    kept: Float[Tensor, "kept ..."]
    sums: Float[Tensor, "block ..."]
    ends: Float[Tensor, "2 example"]
    path: Float[Tensor, "2 example"]
    doubt: Float[Tensor, "*unit"]
    stands_for: Float[Tensor, " column"]

    @classmethod
    def of(
        cls, pairs: PairSet, shape: tuple[int, ...], rows: ExampleRows | None, *, per_example: bool
    ) -> _Sums:
        n = len(pairs)
        return cls(
            rows,
            torch.zeros(shape, dtype=torch.float64),
            torch.zeros(n if per_example and rows is None else 0, *shape),
            torch.zeros(0 if per_example else min(COUNT, n), *shape),
            torch.zeros(2, n),
            torch.full((2, n), torch.nan),
            torch.zeros(shape, dtype=torch.float64),
            torch.zeros(shape[-1]),
        )

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    @property
    def blocks(self) -> Int[Tensor, " example"]:
        """Which block each example is in."""
        n = self.ends.shape[1]
        return block_of(n, min(COUNT, n))

    def keep(self, indices: Int[Tensor, " batch"], batch_sums: BatchSums) -> None:
        """See that these examples' rows are in the file, where there is one."""
        if self.rows is None:
            return
        if batch_sums.checks is not None:
            self.rows.take_in(indices, batch_sums.checks)
        elif batch_sums.scores is not None:
            self.rows.put(indices, batch_sums.scores)

    def add(self, indices: Int[Tensor, " batch"], batch_sums: BatchSums) -> None:
        """Take in the scores of these examples."""
        batch_sums.add_to(self.total)
        self.ends[:, indices] = batch_sums.ends
        if batch_sums.doubt is not None:
            self.path[:, indices] = batch_sums.doubt.path
            self.doubt[..., batch_sums.doubt.columns] += batch_sums.doubt.total
            self.stands_for.copy_(batch_sums.doubt.stands_for)
        if (scores := batch_sums.scores) is None:
            return
        if len(self.kept):
            self.kept[indices] = scores
        elif len(self.sums):
            self.sums.index_add_(0, self.blocks[indices], scores)

    def gathered(self, n: int, made_from: Provenance) -> DatasetScores:
        """The scores of the first `n` examples, which are those taken in so far."""
        ends, path = self.ends[:, :n], self.path[:, :n]
        error = None
        if not path.isnan().any():
            error = describe_error(path, self.doubt, self.total, self.stands_for)
        each, blocks = None, None
        if self.rows is not None:
            each = self.rows.first(n)
        elif len(self.kept):
            each = self.kept[:n] if n == len(self.kept) else self.kept[:n].clone()
        else:
            sizes = self.blocks[:n].bincount(minlength=len(self.sums))
            blocks = Blocks(self.sums[sizes > 0], sizes[sizes > 0])
        return DatasetScores(
            (self.total / n).float(),
            each,
            blocks,
            made_from.extended(
                metric_clean=float(ends[0].mean()),
                metric_corrupted=float(ends[1].mean()),
                error=error,
            ),
        )
