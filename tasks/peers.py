"""Peer rows: for each row another one of the same split, to corrupt its prompt with.

A peer's prompt has as many tokens, and another answer. Which one is taken hangs on the seed and on
the rows of the split alone, so that a larger `n` extends a smaller one.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence

from tasks.errors import CircuitsError, InputError

_TRIES = 64
"""Peers that are tried for a row at most."""


class NoPeerError(InputError):
    """A row that has no peer; such rows are left out, also where none may be skipped."""


class Peers:
    """For each of some rows, those that can be its peer, in the order in which they are tried."""

    def __init__(
        self, n: int, likeness: Callable[[int], tuple[Hashable, Hashable]], seed: int
    ) -> None:
        """Sort the rows.

        Args:
            n: how many rows there are.
            likeness: of a row: what peers share, and what they differ in; a row of which it raises
                a CircuitsError is nobody's peer.
            seed: of the order.
        """
        self._groups: dict[Hashable, list[int]] = defaultdict(list)
        self._of: dict[int, tuple[Hashable, Hashable]] = {}
        order = list(range(n))
        random.Random(seed).shuffle(order)
        for row in order:
            try:
                self._of[row] = likeness(row)
            except CircuitsError:  # said again when its turn comes
                continue
            self._groups[self._of[row][0]].append(row)
        self._place = {
            row: position for group in self._groups.values() for position, row in enumerate(group)
        }

    def of(self, row: int) -> Iterator[int]:
        """The rows that can be the peer of one, the nearest in its group first.

        Args:
            row: whose peer is looked for.

        Yields:
            Rows of the same group that differ from it.
        """
        if row not in self._of:
            return
        common_key, distinct_key = self._of[row]
        group, position = self._groups[common_key], self._place[row]
        rotated: Sequence[int] = [*group[position + 1 :], *group[:position]]
        n_tried = 0
        for peer in rotated:
            if self._of[peer][1] != distinct_key:
                yield peer
                n_tried += 1
                if n_tried == _TRIES:
                    return
