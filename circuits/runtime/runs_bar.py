"""A progress bar of runs: it moves while a batch is being worked on, not only when one ends.

A batch of examples is run many times, once for each circuit, site or path. On a real model that
takes minutes, and a bar that counts examples stands still meanwhile.
"""

from __future__ import annotations

from types import TracebackType

from tqdm.auto import tqdm


class RunsBar:
    """Counts runs, each of one example; a context manager, which closes the bar."""

    def __init__(self, title: str | None, *, examples: int, runs: int, done: int = 0) -> None:
        """Show the bar.

        Args:
            title: the words beside it; None shows none.
            examples: how many there are.
            runs: of each example.
            done: examples that were finished before.
        """
        self._runs = runs
        self._finished = done * runs
        self._bar: tqdm[None] = tqdm(
            desc=title,
            total=examples * runs,
            initial=self._finished,
            unit="run",
            disable=title is None,
        )

    def __enter__(self) -> RunsBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def within(self, runs: int) -> None:
        """Say how far the batch at hand is; one that was halved starts over, and the bar goes back.

        Args:
            runs: those of its examples that are done, all together.
        """
        self._bar.update(self._finished + runs - self._bar.n)

    def finish(self, examples: int) -> None:
        """Say that a batch is done.

        Args:
            examples: how many it has.
        """
        self._finished += examples * self._runs
        self.within(0)
