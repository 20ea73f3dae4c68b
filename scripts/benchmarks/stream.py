"""Memory of making and reading training examples from a stream of many articles.

    python scripts/benchmarks/stream.py [--articles 100000] [--words 400] [--suffix .jsonl]
        [--whole]

Writes a file of synthetic articles, makes an example of each (`summarization` with `stream`), and
reads all of them once, as a fine-tuning does. Memory is what the process holds by itself (RssAnon),
above what it held before, every tenth of the way; the examples' file is on disk. --whole reads the
file at once instead, to compare. One JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import tasks
from circuits.models import load_model
from tasks.pairs import TrainingExample
from tasks.task import TrainableTask


def write_articles(path: Path, number: int, words: int) -> None:
    """Articles of made-up words, one JSON object or CSV row each, with a summary of ten words."""
    dice = random.Random(0)
    vocabulary = [
        "".join(dice.choices("abcdefgilmnorstu", k=dice.randint(2, 9))) for _ in range(5000)
    ]
    with path.open("w", encoding="utf-8") as file:
        if path.suffix == ".csv":
            file.write("article,summary\n")
        for _ in range(number):
            text = dice.choices(vocabulary, k=words)
            article = ". ".join(" ".join(text[i : i + 20]) for i in range(0, words, 20)) + "."
            summary = " ".join(text[:10])
            if path.suffix == ".csv":
                file.write(f'"{article}","{summary}"\n')
            else:
                file.write(json.dumps({"article": article, "summary": summary}) + "\n")


def held() -> float:
    """Megabytes that this process holds by itself."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("RssAnon")]
    return int(line.split()[1]) / 1024


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--articles", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=400)
    parser.add_argument("--suffix", choices=[".jsonl", ".csv"], default=".jsonl")
    parser.add_argument("--whole", action="store_true")
    arguments = parser.parse_args()
    number = arguments.articles
    _, tokenizer = load_model("newsroom-gpt2", device="cpu")
    assert tokenizer is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"articles{arguments.suffix}")
        write_articles(path, number, arguments.words)
        task = tasks.load(
            "summarization", path=path, stream=not arguments.whole, max_summary_tokens=128
        )
        assert isinstance(task, TrainableTask)
        task.examples(tokenizer, 2, split="all")  # libraries are loaded
        held_before, marks = held(), []
        post_init, n_made = TrainingExample.__post_init__, 0

        def counted(example: TrainingExample) -> None:
            nonlocal n_made
            post_init(example)
            n_made += 1
            if n_made % max(1, number // 10) == 0:
                marks.append(round(held() - held_before, 1))

        setattr(TrainingExample, "__post_init__", counted)  # noqa: B010 - no method to mypy
        start = time.process_time()
        examples = task.examples(tokenizer, number, split="all")
        making_seconds = time.process_time() - start
        making_marks, marks = marks, []
        start = time.process_time()
        tokens = sum(len(example.prompt) + len(example.target) for example in examples)
        reading_seconds = time.process_time() - start
        figures = {
            "articles": len(examples),
            "file MB": round(path.stat().st_size / 2**20),
            "tokens": tokens,
            "MB while making": making_marks,
            "MB while reading": marks or [round(held() - held_before, 1)],
            "seconds": {"making": round(making_seconds, 1), "reading": round(reading_seconds, 1)},
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
