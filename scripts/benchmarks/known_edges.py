"""Does each attribution method find the edges that are known to matter? AUROC on written models.

    python scripts/benchmarks/known_edges.py [--models induction backup] [--methods eap eap-ig]
        [--settings 0/1 0.1/1 0.1/3] [--n 48] [--resamples 1000] [--out known-edges]

Every registered method, at its defaults, and some with other settings, on every model of
`circuits.known`, whose edges are known from their construction. Tables for each interference and
sharpness of the models: AUROC of |mean score| (edges of the circuit against all others), with the
95 % percentile interval over resampled pairs; for method `random`, the mean and the range of 95 %
of 200 seeds. The last rows are the mean over models, with the interval over resampled models, and
the mean share of the circuit among as many edges of the highest |score|.

What a method cannot score is said below the table, with the method's own reason. `--out` writes
`known-edges.json` and `known-edges.md` into a folder; the tables are printed in any case.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

import circuits
from circuits import known
from circuits.attribution import METHODS, method
from circuits.attribution.method import Method
from circuits.errors import CircuitsError
from circuits.known import KnownModel
from circuits.statistics import resample_weights
from tasks.pairs import PairSet

SEEDS = 200  # of method random
OUTSIDE = (0.025, 0.975)
CHOICES: dict[str, Callable[[], Method]] = {
    **{name: partial(method, name) for name in METHODS},
    "exact": partial(method, "exact", force=True),
    "eap-ig, 4 steps": partial(method, "eap-ig", steps=4),
    "eap-ig, left": partial(method, "eap-ig", quadrature="left"),
    "eap-ig, 20 steps": partial(method, "eap-ig", steps=20),
    "eap-ig, auto": partial(method, "eap-ig", steps="auto"),
    "eap-ig-activations, own": partial(method, "eap-ig-activations", gradients="own"),
    "relp, constant": partial(method, "relp", attention="constant"),
}
"""Registered methods at their defaults, and settings that make a difference."""


@dataclass(frozen=True)
class Cell:
    """One method on one model.

    auroc: with its interval, low and high. found: share of the circuit among the first edges.
    refused: why there are no scores; "" where there are.
    """

    model: str
    method: str
    setting: str
    auroc: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    found: float = float("nan")
    refused: str = ""


def cell(one: KnownModel, pairs: PairSet, name: str, setting: str, resamples: int) -> Cell:
    """Score the model's edges and compare their ranking with what is known."""
    mask = one.model.layout.mask
    in_circuit = one.circuit.mask[mask]
    try:
        if name == "random":
            scorers = [method(name, seed=seed) for seed in range(SEEDS)]
            random_scores = [
                circuits.attribute(one.model, pairs[:1], scorer).matrix[mask] for scorer in scorers
            ]
            values = known.sizes(torch.stack(random_scores))
        else:
            scores = circuits.attribute(one.model, pairs, CHOICES[name](), per_example=True)
            assert scores.per_example is not None
            weights = resample_weights(len(pairs), resamples, seed=0)
            example_scores = scores.per_example[:, mask].double()
            values = known.sizes(
                torch.cat([example_scores.mean(dim=0)[None], weights @ example_scores])
            )
    except CircuitsError as error:
        return Cell(one.name, name, setting, refused=str(error))
    auroc = known.auroc(values, in_circuit).double()
    first_share = known.found_first(values, in_circuit).double()
    low, high = auroc.quantile(torch.tensor(OUTSIDE, dtype=torch.float64)).tolist()
    if name == "random":
        return Cell(
            one.name, name, setting, float(auroc.mean()), low, high, float(first_share.mean())
        )
    return Cell(one.name, name, setting, float(auroc[0]), low, high, float(first_share[0]))


def over_models(values: Sequence[float], resamples: int) -> str:
    """The mean with its interval over resampled models."""
    column = torch.tensor(values, dtype=torch.float64)
    means = resample_weights(len(values), resamples, seed=0) @ column
    low, high = means.quantile(torch.tensor(OUTSIDE, dtype=torch.float64)).tolist()
    return f"{short(float(column.mean()))} [{short(low)}, {short(high)}]"


def short(value: float) -> str:
    """Two digits, or three where two would round up to 1."""
    if value < 1 and round(value, 2) == 1:
        return f"{value:.3f}".lstrip("0") if round(value, 3) < 1 else ">.999"
    return f"{value:.2f}".lstrip("0") if value < 1 else "1"


def table(cells: Sequence[Cell], resamples: int) -> str:
    """One Markdown table: a row for each model, a column for each method."""
    methods = list(dict.fromkeys(entry.method for entry in cells))
    models = list(dict.fromkeys(entry.model for entry in cells))
    cell_at = {(entry.model, entry.method): entry for entry in cells}
    lines = [f"| | {' | '.join(methods)} |", "|---|" + "---|" * len(methods)]
    for model in models:
        row = [told(cell_at[model, name]) for name in methods]
        lines.append(f"| {model} | {' | '.join(row)} |")
    columns = [
        [cell_at[model, name] for model in models if not cell_at[model, name].refused]
        for name in methods
    ]
    means = [
        over_models([entry.auroc for entry in column], resamples) if column else ""
        for column in columns
    ]
    firsts = [
        over_models([entry.found for entry in column], resamples) if column else ""
        for column in columns
    ]
    lines += [f"| **mean** | {' | '.join(means)} |", f"| **found first** | {' | '.join(firsts)} |"]
    reasons = {
        f"{entry.method} on {entry.model}: {entry.refused}" for entry in cells if entry.refused
    }
    return "\n".join([*lines, *(["", *sorted(reasons)] if reasons else [])])


def told(one: Cell) -> str:
    """A figure, with its interval where it has one."""
    if one.refused:
        return "not run"
    if short(one.low) == short(one.high):
        return short(one.auroc)
    return f"{short(one.auroc)} [{short(one.low)}, {short(one.high)}]"


def main() -> None:
    """Score, compare, print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=known.names(), default=known.names())
    parser.add_argument("--methods", nargs="+", choices=list(CHOICES), default=list(CHOICES))
    parser.add_argument(
        "--settings",
        nargs="+",
        default=["0/1", "0.1/1", "0.1/3"],
        help="interference/sharpness, as circuits.known.load takes them",
    )
    parser.add_argument("--n", type=int, default=48, help="pairs of each task")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cells: list[Cell] = []
    sections: list[str] = []
    for setting in options.settings:
        interference, sharpness = map(float, setting.split("/"))
        table_cells: list[Cell] = []
        for model in options.models:
            known_model = known.load(model, interference=interference, sharpness=sharpness)
            pairs = known_model.pairs(options.n)
            table_cells += [
                cell(known_model, pairs, name, setting, options.resamples)
                for name in options.methods
            ]
        cells += table_cells
        registered = [entry for entry in table_cells if entry.method in METHODS]
        others = [entry for entry in table_cells if entry.method not in METHODS]
        tables = [table(some, options.resamples) for some in (registered, others) if some]
        heading = f"interference {interference:g}, sharpness {sharpness:g}"
        sections.append("\n\n".join([heading, *tables]) + "\n")
    print("\n".join(sections))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "known-edges.md").write_text("\n".join(sections), encoding="utf-8")
        rows = [asdict(entry) for entry in cells]
        (options.out / "known-edges.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
