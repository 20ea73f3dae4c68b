"""Which ranking of nodes loses, and does the one that is chosen per run lose too?

    python scripts/benchmarks/node_rankings.py --known
    python scripts/benchmarks/node_rankings.py --models gemma3-270m --tasks ioi-abc agreement

Nodes (with `--level neuron`: dimensions of heads and neurons of MLPs) are scored by EAP-IG with 5
midpoints on `--score` pairs. For each size the ranking is chosen on `--choose` other pairs, as
`discover --level node --size` does it (`circuits.choose_ranking`), and circuits by it and by each
ranking that was tried are judged on `--judge` pairs more: of real models the splits train,
validation and test.

A row a size: f of the circuit by each ranking, which one was chosen, and |1 - f| by it less that by
absolute score; 95 % intervals over the judged pairs, which are the same in all columns. Below, the
means of |1 - f| over rows, and in how many of them the choice is told to be nearer to 1 than the
absolute ranking, and to be further from it.

Sizes of real models are shares of all nodes; of models whose circuit is known (`circuits.known`)
half, all, and twice the number of the nodes that were written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch
from jaxtyping import Float
from method_tables import told
from methods import MODELS, QUESTIONS
from torch import Tensor

import tasks
from circuits import known
from circuits.attribution import attribute_nodes
from circuits.attribution.nodes import NodeLevel
from circuits.evaluation import RankingTrials, choose_ranking, measure
from circuits.evaluation.measure import faithfulness_from_means
from circuits.graph.levels import empty_like, select_size, size_of_fraction
from circuits.models import HookedModel
from circuits.statistics.estimate import Estimate, estimates
from tasks.pairs import PairSet

sys.path.append(str(Path(__file__).parents[1]))
from studies import table

STEPS = 5
SHARES = {"node": (0.1, 0.2, 0.3, 0.5), "neuron": (0.01, 0.05, 0.2)}
SAME = 1e-3  # in f: a difference below it is rounding
PAIRS_OF_KNOWN = 24  # for each of scoring, choosing and judging


@dataclass(frozen=True)
class Case:
    """A model on a task, with pairs to score on, to choose the ranking on, and to judge on.

    sizes: of the circuits; () takes the shares of SHARES.
    """

    name: str
    model: HookedModel
    scored: PairSet
    others: PairSet
    judged: PairSet
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """Circuits of one size.

    f: by ranking. taken: the ranking that was chosen. less_absolute: |1 - f| by it less that by
    absolute score.
    """

    case: str
    size: int
    candidates: int
    f: dict[str, Estimate]
    taken: str
    less_absolute: Estimate


def rows(case: Case, level: NodeLevel) -> Iterator[Row]:
    """A row a size."""
    scores = attribute_nodes(case.model, case.scored, "eap-ig", level=level, steps=STEPS)
    candidates = len(empty_like(scores).candidates)
    for size in case.sizes or [size_of_fraction(scores, share) for share in SHARES[level]]:
        choice = choose_ranking(case.model, scores, case.others, RankingTrials(size))
        names = [trial.name for trial in choice.trials]
        circuits = [
            select_size(scores, size, ranking=trial.ranking, positive_ratio=trial.positive_ratio)
            for trial in choice.trials
        ]
        taken, absolute = names.index(choice.taken.name), names.index("absolute")

        def figures(
            means: Float[Tensor, "*resample column"],
            taken: int = taken,
            absolute: int = absolute,
        ) -> Float[Tensor, "*resample figure"]:
            f = faithfulness_from_means(means)
            off = (1 - f).abs()
            return torch.cat([f, (off[..., taken] - off[..., absolute])[..., None]], dim=-1)

        columns = measure(case.model, case.judged, circuits).columns
        *f, less_absolute = estimates(columns, figures)
        by_ranking = dict(zip(names, f, strict=True))
        yield Row(case.name, size, candidates, by_ranking, names[taken], less_absolute)


def tables(all_rows: Sequence[Row]) -> str:
    """The rows, then what they say together."""
    names = list(all_rows[0].f)
    lines = [
        [
            *(row.case, f"{row.size} of {row.candidates}", *map(told, row.f.values())),
            *(row.taken, told(row.less_absolute)),
        ]
        for row in all_rows
    ]
    head = ("model, task", "size", *(f"f, {name}" for name in names))
    off = {name: mean(abs(1 - row.f[name].value) for row in all_rows) for name in names}
    off["chosen"] = mean(abs(1 - row.f[row.taken].value) for row in all_rows)
    nearest = sum(
        abs(1 - row.f[row.taken].value) <= min(abs(1 - f.value) for f in row.f.values()) + SAME
        for row in all_rows
    )
    nearer = sum(row.less_absolute.high < -SAME for row in all_rows)
    further = sum(row.less_absolute.low > SAME for row in all_rows)
    means = ", ".join(f"{name} {value:.2f}" for name, value in off.items())
    return (
        f"{table((*head, 'chosen', 'off 1 by the choice less absolute'), lines)}\n"
        f"mean |1 - f| over {len(all_rows)} rows: {means}\n"
        f"the choice is nearer to 1 than absolute in {nearer}, further in {further}, and the "
        f"nearest of all in {nearest}\n"
    )


def real_case(
    source: str, model: HookedModel, name: str, score: int, choose: int, judge: int
) -> Case:
    """A real model on one of the tasks of methods.py."""
    question = QUESTIONS[name]
    task = tasks.load(question.task, **question.options)

    def pairs(split: tasks.Split, n: int) -> PairSet:
        return task.pairs(model.tokenizer, n=n, split=split, seed=0, n_ctx=model.n_ctx)

    return Case(
        f"{source}, {name}",
        model,
        pairs("train", score),
        pairs("validation", choose),
        pairs("test", judge),
    )


def known_cases() -> Iterator[Case]:
    """Every model whose circuit is known, with its sizes."""
    for name in known.names():
        one = known.load(name)
        scored, others, judged = _apart(*(one.pairs(PAIRS_OF_KNOWN, seed) for seed in range(3)))
        built = {edge.split("->")[0] for edge in one.edges} - {"input"}
        total = one.model.layout.shape[0] - 1
        sizes = {max(1, len(built) // 2), len(built), min(total, 2 * len(built))}
        yield Case(name, one.model, scored, others, judged, tuple(sorted(sizes)))


def _apart(*draws: PairSet) -> Iterator[PairSet]:
    """Each draw without the pairs of those before it."""
    seen: set[str] = set()
    for pairs in draws:
        yield replace(pairs, pairs=pairs.without(seen))
        seen |= {*pairs.fingerprints}


def main() -> None:
    """Score, choose, judge; print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--known", action="store_true", help="models of known circuits")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--tasks", nargs="+", choices=QUESTIONS, default=["ioi-abc"])
    parser.add_argument("--level", choices=SHARES, default="node")
    parser.add_argument("--score", type=int, default=16)
    parser.add_argument("--choose", type=int, default=16)
    parser.add_argument("--judge", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found: list[Row] = []
    if given.known:
        for case in known_cases():
            found += rows(case, "node")
    else:
        for source in given.models:
            model = HookedModel.from_pretrained(source)
            for name in given.tasks:
                case = real_case(source, model, name, given.score, given.choose, given.judge)
                for row in rows(case, given.level):
                    found.append(row)
                    print(row, file=sys.stderr, flush=True)
    print(tables(found))


if __name__ == "__main__":
    main()
