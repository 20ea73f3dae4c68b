"""The q, k, v readers of one module on a circuit: what the module gives, each from its own input.

A module's output is taken as groups of `d_head` features, a head's each. Those whose readers keep
some edges are computed from these readers' inputs, those of readers that keep all are the module's
own, and the rest are the reference's. Where few are the reference's, their readers are served as
well: with no kept edge they are given the reference's stream, and nothing needs picking out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from circuits.intervention.picking import IndexLists, Picked
from circuits.models.placement import tensor_of
from circuits.models.view import ReadsHeads, input_major

CORRUPTED, COMPUTED, ALONE = 0, 1, 2  # what a reader is given


@runtime_checkable
class GivesInputs(Protocol):
    """Who makes what the readers of a stream are given."""

    def of(
        self, event: ReadsHeads, rows: range
    ) -> Iterator[tuple[slice, Float[Tensor, "reader token d_model"]]]:
        """Inputs of readers of one event, through its norm if any, in parts: which of `rows`,
        and what they are given.
        """


@dataclass(frozen=True, eq=False)
class HeadReaders:
    """Readers of one module.

    served: columns of those that are given inputs of their own, in the order of their features.
    rows: where these stand among the stream's served readers. slots: their groups of features,
    and `alone` those of readers that are left alone; None for no group at all.
    """

    event: ReadsHeads
    module: nn.Module
    d_head: int
    served: list[int]
    rows: range
    slots: Picked | None
    alone: Picked | None
    reference: Float[Tensor, "batch pos feature"]

    @classmethod
    def of(
        cls,
        event: ReadsHeads,
        module: nn.Module,
        state: Sequence[int],
        reference: Float[Tensor, "batch pos feature"],
        picks: tuple[IndexLists, int],
        start: int,
    ) -> HeadReaders | None:
        """Those of a module, from what each reader of the model is given; None if all are left
        alone. picks: as for `Differences`. start: the first free place.
        """
        slots = event.slots[module]
        groups: tuple[dict[int, int], ...] = ({}, {}, {})
        for slot, column in slots.items():
            groups[state[column]][slot] = column
        corrupted, served, alone = groups
        if len(alone) == len(slots):
            return None
        picker, vain = picks
        if served and not alone and len(corrupted) <= vain:
            served = slots
        return cls(
            event,
            module,
            event.modules[module][0][0].d_head,
            [*served.values()],
            range(start, start + len(served)),
            picker.pick([*served]) if served else None,
            picker.pick([*alone]) if alone else None,
            reference,
        )

    def circuit_output(
        self, inputs: GivesInputs, output: Tensor
    ) -> Float[Tensor, "batch pos feature"]:
        """The module's output on the circuit.

        output: its own; no rows if no reader is left alone.
        """
        if self.slots is None:
            return self._unserved(output)
        value = self._computed(inputs, self.slots).transpose(0, 1)
        if len(self.slots) * self.d_head == self.reference.shape[-1]:
            return value.reshape(self.reference.shape)
        new = self._unserved(output)
        self.slots.put(self._groups(new), -2, value.unflatten(0, new.shape[:-1]))
        return new

    def _unserved(self, output: Tensor) -> Float[Tensor, "batch pos feature"]:
        """The reference's groups and those left alone; a new tensor."""
        new = self.reference.clone()
        if self.alone is not None:
            alone_values = self.alone.of(self._groups(output.view(new.shape)), -2)
            self.alone.put(self._groups(new), -2, alone_values)
        return new

    def _computed(self, inputs: GivesInputs, slots: Picked) -> Float[Tensor, "reader token d_head"]:
        weight = slots.of(self._groups(input_major(self.module)), 1).transpose(0, 1)
        bias = tensor_of(self.module, "bias")
        if bias is not None:
            bias = slots.of(self._groups(bias), 0)[:, None]
        parts = []
        for part, x in inputs.of(self.event, self.rows):
            w = weight[part]
            parts.append(torch.bmm(x, w) if bias is None else torch.baddbmm(bias[part], x, w))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _groups(self, x: Tensor) -> Float[Tensor, "*batch group d_head"]:
        return x.unfold(-1, self.d_head, self.d_head)
