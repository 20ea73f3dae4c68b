"""What does the precision of the weights do to scores and circuits? float32, bfloat16, int8, nf4.

    python scripts/study_precision.py --out runs/precision
    python scripts/study_precision.py --models smollm2-135m --score 16 --judge 16

Indirect objects. Of each model and precision: EAP-IG on `--score` pairs of the training split, held
against float32's on the same pairs by the rank correlation of all edges' scores and by what the
largest 1 % share; and the circuit of 1 % of the edges, by its own scores, run on `--judge` pairs
of the test split in the model itself and in the float32 one. The row "other pairs" is float32 on as
many other pairs of the training split: what the choice of examples alone does. One JSON file a cell
under `--out`, beside the scores; those that are there are not made again, so that a killed study
goes on. The table is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from pydantic import TypeAdapter

import tasks
from circuits.attribution import attribute
from circuits.comparison.precision import agreement_of
from circuits.evaluation import CurveConfig, Estimate, faithfulness
from circuits.format import estimate, signed
from circuits.graph import EdgeScores
from circuits.models import HookedModel
from circuits.models.weight_loading import WeightLoading
from circuits.options.run import RunOptions
from circuits.runtime.files import read_json, write_json

MODELS = ("smollm2-135m", "gemma3-270m")
ROWS = ("float32", "bfloat16", "int8", "nf4", "other pairs")
SHARE = 0.01  # of the edges: the circuit whose faithfulness is asked


@dataclass(frozen=True)
class Cell:
    """A row of a model's table.

    own, plain: f of the circuit in the model itself, and in float32.
    """

    rank: float
    top: float
    own: Estimate
    plain: Estimate

    def __str__(self) -> str:
        columns = (signed(self.rank, 3), signed(self.top, 2), estimate(self.own, 2))
        return " | ".join([*columns, estimate(self.plain, 2)])


@dataclass
class Study:
    """One model."""

    name: str
    out: Path
    n_score: int
    n_judge: int
    batch_size: int

    def loaded(self, row: str) -> HookedModel:
        """The model in a row's precision."""
        kind = row if row in ("int8", "nf4") else None
        weights = WeightLoading(kind)  # type: ignore[arg-type]
        dtype = "bfloat16" if row == "bfloat16" else "float32"
        return HookedModel.from_pretrained(self.name, device="cpu", dtype=dtype, weights=weights)

    def scores(self, row: str, model: HookedModel) -> EdgeScores:
        """Scores by a row's precision and pairs; kept on disk."""
        folder = self.out / f"{self.name}-{row.replace(' ', '-')}"
        if (folder / "scores.json").is_file():
            return EdgeScores.load(folder)
        pairs = tasks.load("ioi").pairs(model.tokenizer, n=2 * self.n_score, split="train")
        half = slice(self.n_score, None) if row == "other pairs" else slice(self.n_score)
        options = RunOptions(batch_size=self.batch_size)
        scores = attribute(model, pairs[half], "eap-ig", options=options, per_example=False)
        scores.save(folder)
        return scores

    def faithful(self, model: HookedModel, scores: EdgeScores) -> Estimate:
        """f of the circuit of 1 % of the edges, by absolute scores."""
        pairs = tasks.load("ioi").pairs(model.tokenizer, n=self.n_judge, split="test")
        curve = CurveConfig(fractions=(SHARE,), n_random=1)
        options = RunOptions(batch_size=self.batch_size)
        return (
            faithfulness(model, scores, pairs, curve=curve, options=options)
            .curves["absolute"]
            .values[0]
        )

    def cell(self, row: str) -> Cell:
        """Made once, then read."""
        file = self.out / f"{self.name}-{row.replace(' ', '-')}.json"
        kind = TypeAdapter(Cell)
        if file.is_file():
            return kind.validate_python(read_json(file))
        plain = self.loaded("float32")
        reference = self.scores("float32", plain)
        model = plain if row in ("float32", "other pairs") else self.loaded(row)
        scores = self.scores(row, model)
        score_agreement = agreement_of(scores, reference)
        plain_f = self.faithful(plain, scores)
        own_f = plain_f if model is plain else self.faithful(model, scores)
        cell = Cell(score_agreement.rank, score_agreement.top, own_f, plain_f)
        write_json(file, kind.dump_python(cell, mode="json"))
        return cell


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--score", type=int, default=16, help="pairs that are scored on")
    parser.add_argument("--judge", type=int, default=16, help="pairs that circuits run on")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()
    print("| model | weights | rank | top 1 % | f, itself | f, in float32 |")
    print("|---|---|---|---|---|---|")
    for name in options.models:
        study = Study(name, options.out, options.score, options.judge, options.batch_size)
        for row in options.rows:
            print(f"| {name} | {row} | {study.cell(row)} |", flush=True)


if __name__ == "__main__":
    main()
