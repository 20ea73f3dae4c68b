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
            row: place for group in self._groups.values() for place, row in enumerate(group)
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
        shared, own = self._of[row]
        group, place = self._groups[shared], self._place[row]
        turned: Sequence[int] = [*group[place + 1 :], *group[:place]]
        tried = 0
        for other in turned:
            if self._of[other][1] != own:
                yield other
                tried += 1
                if tried == _TRIES:
                    return
