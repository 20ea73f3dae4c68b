"""Passes of any batch from those of two, by what they have in proportion to the batch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from transformers import PreTrainedConfig

from circuits.planning.jobs import Case, Job
from circuits.planning.passes import Pass, TracedPasses, count_passes
from circuits.planning.sizes import Sizes


@dataclass(frozen=True)
class Proportion:
    """A job whose passes were counted at one pair and at the most pairs that are asked about.

    What is computed and kept is a straight line over the batch, which both ends give exactly. Peaks
    are the highest of several lines where something takes as much for every batch (layers that are
    turned back out of their quantisation): between the ends they lie on or below what is said here.
    """

    sizes: Sizes
    one_pair: TracedPasses
    most_pairs: TracedPasses
    batch: int

    @classmethod
    def of(cls, config: PreTrainedConfig, job: Job, batch: int) -> Proportion:
        """Count the passes of a job.

        Args:
            config: of the model.
            job: what is to be done, without training; its own batch does not matter.
            batch: the most pairs at a time.

        Returns:
            Passes of all batches up to that.
        """

        def traced(batch: int) -> TracedPasses:
            shape = job.of(batch).shape
            return count_passes(config, shape, recompute=job.recompute, quantize=job.quantize)

        single = traced(1)
        return cls(Sizes.of(config), single, single if batch == 1 else traced(batch), batch)

    def case(self, job: Job) -> Case:
        """The job's own batch, with its passes.

        Args:
            job: that the passes were counted for, of at most as many pairs at a time.

        Returns:
            Both.
        """
        batch = job.shape.batch
        if batch == 1:
            return Case(job, self.sizes, self.one_pair)
        single, most, ends = self.one_pair, self.most_pairs, (1, self.batch)
        traced = replace(
            single,
            forward=_between(single.forward, most.forward, batch, ends),
            step=_between(single.step, most.step, batch, ends),
            prefix=_between(single.prefix, most.prefix, batch, ends)
            if single.prefix and most.prefix
            else None,
        )
        return Case(job, self.sizes, traced)


def _between(first: Pass, last: Pass, batch: int, ends: tuple[int, int]) -> Pass:
    """The pass of a batch on the line between two, rounded up."""
    steps, of = batch - ends[0], ends[1] - ends[0]
    pairs = ((getattr(first, field.name), getattr(last, field.name)) for field in fields(Pass))
    return Pass(*(start - (start - end) * steps // of for start, end in pairs))
