"""Prompts of our own as rows of MIB's IOI data set, to try its task and its counting on.

    python scripts/benchmarks/ioi_as_mib.py --model smollm2-135m --n 16 --out ioi.jsonl
    circuits discover --model smollm2-135m --task mib-ioi --data ioi.jsonl --split train \\
        --out scores
    circuits benchmark scores --model smollm2-135m --task mib-ioi --data ioi.jsonl --split test

The prompts are those of the task `ioi` with corruption `swap`, which MIB calls `s2_io_flip`. A
figure on them is not one of the benchmark's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import tasks
from circuits.models.checkpoints import tokenizer_of
from tasks.builtin.ioi import IOI

_SPLITS: tuple[tasks.Split, ...] = ("train", "validation", "test")


def main() -> None:
    """Write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="whose tokenizer has the names")
    parser.add_argument("--n", type=int, default=16, help="rows of each split")
    parser.add_argument("--out", type=Path, default=Path("ioi.jsonl"))
    given = parser.parse_args()
    tokenizer, rows = tokenizer_of(given.model), []
    for split in _SPLITS:
        for prompts in IOI(corruption="swap").prompts(tokenizer, given.n, split=split):
            right, wrong, other, *_ = prompts.names
            row = {
                "split": split,
                "prompt": prompts.clean,
                "metadata": {"indirect_object": right, "subject": wrong, "random_c": other},
                "choices": [right, wrong],
                "answerKey": 0,
                "s2_io_flip_counterfactual": {
                    "prompt": prompts.corrupted,
                    "choices": [right, wrong],
                    "answerKey": 1,
                },
            }
            rows.append(json.dumps(row))
    given.out.write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
