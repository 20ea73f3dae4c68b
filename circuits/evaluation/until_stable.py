"""Score as many examples as stable circuits take, and no more."""

from __future__ import annotations

from collections.abc import Callable

from circuits.attribution.dataset_scores import Growth
from circuits.errors import CircuitsError
from circuits.evaluation.reliability import FEWEST, TARGET, reliability
from circuits.graph import AnyScores
from circuits.graph.findings import Reliability
from circuits.options.choices import Ranking, Strategy

N_FIRST = 32
"""Examples to begin with."""
_STEPS = (1.25, 2.0)
"""The next number of examples as a multiple of the last, at least and at most."""

Ranked = tuple[Ranking, float | None]
"""A ranking, and the share by signed score of a mix."""


def until_stable(
    target: float = TARGET,
    *,
    n_first: int = N_FIRST,
    size: int | None = None,
    strategy: Strategy | None = None,
    ranking: Ranking | Callable[[AnyScores], Ranked] = "absolute",
    positive_ratio: float | None = None,
    seed: int = 0,
    on_look: Callable[[Reliability], None] | None = None,
) -> Growth:
    """For `attribute`: go on until circuits from as many other examples are this alike.

        scores = attribute(model, until_stable(0.8).over(pairs))

    The pairs given are the most that are taken. The next number is the one that the scores so far
    call for, 1.25 to 2 times the last; the first estimate that reaches the target ends it. That
    many looks find one too good is of little weight: in simulations circuits were truly .79 to .81
    alike on average where .8 was asked, .67 at the worst (docs/statistics.md).

    Args:
        target: Jaccard index of circuits from two disjoint sets of as many examples, between 0
            and 1.
        n_first: examples to begin with, 4 or more.
        size: edges (nodes, neurons) of the circuit; None as for `reliability`.
        strategy: how the ranking becomes an order, as for `select`.
        ranking: a name, or what chooses one, with its share of a mix, from the first scores.
        positive_ratio: the share by signed score, of ranking "mixed".
        seed: of the splits in halves.
        on_look: is given what each look finds.

    Returns:
        The growth, whose `over` makes of pairs what `attribute` takes.

    Raises:
        CircuitsError: where target or `n_first` are out of range.
    """
    if not 0 < target < 1:
        raise CircuitsError(f"until stable {target}: a Jaccard index between 0 and 1")
    if n_first < FEWEST:
        raise CircuitsError(
            f"{n_first} examples to begin with: how far scores depend on them takes at least "
            f"{FEWEST}"
        )
    ranked: list[Ranked] = [] if callable(ranking) else [(ranking, positive_ratio)]

    def look(scores: AnyScores) -> Reliability:
        if not ranked:
            assert callable(ranking)
            ranked.append(ranking(scores))
        name, share = ranked[0]
        return reliability(
            scores,
            size=size,
            strategy=strategy,
            ranking=name,
            positive_ratio=share,
            target=target,
            seed=seed,
        )

    def more(scores: AnyScores) -> int:
        estimate = look(scores)
        if on_look is not None:
            on_look(estimate)
        least, most = (round(estimate.n * step) for step in _STEPS)
        n_wanted = most if estimate.needed is None else estimate.needed.value
        return estimate.n if estimate.reached else min(max(n_wanted, least, estimate.n + 1), most)

    return Growth(
        n_first,
        more,
        {
            "target": target,
            "size": size,
            "strategy": strategy,
            "ranking": ranking if isinstance(ranking, str) else "chosen",
            "positive_ratio": positive_ratio,
            "seed": seed,
        },
    )
