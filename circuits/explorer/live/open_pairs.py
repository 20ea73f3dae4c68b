"""The prompt pairs that windows look at: shared between them, and bounded by what they keep.

Windows at the same prompts share one `LivePair`, for as long as one of them looks at it. What all
pairs keep together is bounded by bytes: beyond that, those that were not asked for longest let go
of their runs, and make them again when they are next asked for something. Pairs that the worker is
at, and the one that it was at last, keep theirs, whatever they take.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from circuits.explorer.live.pair import LivePair
from circuits.models import HookedModel
from circuits.runtime.limits import LIVE_PAIRS_BYTES
from tasks.pairs import PairSet, PromptPair

_Key = tuple[PromptPair, str]


class OpenPairs:
    """The pairs; the worker alone may ask."""

    def __init__(self, model: HookedModel, most: int = LIVE_PAIRS_BYTES) -> None:
        """model: what runs them. most: bytes that all of them may keep together."""
        self.model, self.most = model, most
        # Those asked for last stand last.
        self._pairs: WeakValueDictionary[_Key, LivePair] = WeakValueDictionary()
        self._users: Counter[_Key] = Counter()

    def of(self, pairs: PairSet) -> LivePair:
        """The pair of a set of one.

        Raises:
            CircuitsError: where it does not fit the model.
        """
        pair = self._pairs.get(_key(pairs))
        return LivePair(self.model, pairs) if pair is None else pair

    @contextmanager
    def in_use(self, pair: LivePair) -> Iterator[LivePair]:
        """Within, and until another pair is asked for something, a pair keeps what it has."""
        key = _key(pair.pairs)
        self._pairs.pop(key, None)
        self._pairs[key] = pair
        self._users[key] += 1
        try:
            yield pair
        finally:
            self._users[key] -= 1
            self._users += Counter()  # drops those that are 0
            pair.weigh()
            self._make_room()

    def _make_room(self) -> None:
        """Have pairs let go of their runs, the one not asked for longest first."""
        pairs = list(self._pairs.values())
        for pair in pairs:
            if self._users[_key(pair.pairs)]:
                pair.weigh()
        excess = sum(pair.n_bytes for pair in pairs) - self.most
        for pair in pairs[:-1]:
            if excess <= 0:
                return
            if not self._users[_key(pair.pairs)]:
                excess -= pair.n_bytes
                pair.release()


def _key(pairs: PairSet) -> _Key:
    return pairs[0], pairs.metric
