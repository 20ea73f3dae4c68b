"""Redo two studies by activation patching, on any model, with one command.

    python scripts/reproduce_comparison.py --out runs/comparison
    python scripts/reproduce_comparison.py --model gpt2-medium --pairs 50

"Ronaldo has won 5 titles. Messi has won 8 titles. Question: who has won more titles? Answer:" is
followed by Messi, "Michelle Jones was a top-notch student. Michelle" by Jones. In the corrupted
prompts the two numbers have changed places, and Smith is introduced. Three questions: the
comparison with the smaller number first, with the larger one first, and the surname of a person
named before (the task `name-copying`). Each is put as the original's one pair of prompts and on
generated pairs with other names and numbers:

1. Baseline: accuracy and logit difference between right and wrong name, clean and corrupted; for
   the surname also where somebody else is introduced ("Laura Jones ... Michelle"): a model that
   still says Jones looks for a surname, not for Michelle's.
2. The ten most likely tokens after the clean and after the corrupted prompt.
3. Probability, rank and logit difference of four names: both surnames and both first names.
4. Patching, exact, in both directions: the residual stream, what attention and what MLPs write, by
   layer and position; each head's output, by layer and head. "denoise" puts clean activations into
   the corrupted run and restores the answer, "noise" corrupted ones into the clean run.

Without --model, a small GPT-2 with a tokenizer of its own is trained first: on lists of names,
which teach it to copy, and on introductions; then fine-tuned on prompts of both tasks with their
answers. No text but the lists holds Ronaldo and Messi, or Michelle or Laura with Jones or Smith,
and no prompt a test pair's two numbers. In --out stand `models/`, `tables.md`, `tables.json`,
`sweeps/` and a page of heatmaps for each question and set of pairs. A second run goes on with the
models and the sweeps that are there.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from comparison_gpt2 import small
from studies import Interval, baseline, parser, publish, table, told

import tasks
from circuits.cli.options import silence_libraries
from circuits.errors import CircuitsError
from circuits.intervention.patching import Patching, PatchSpec, patch
from circuits.models import HookedModel
from circuits.options.choices import Direction, SiteName
from circuits.options.run import RunOptions
from circuits.plot.figures.patching import Effect
from circuits.provenance import describe_model, describe_pairs
from circuits.report.patching_page import write_patchings
from tasks.builtin.comparison import CORRUPTIONS
from tasks.generated import Generated, Prompts
from tasks.pairs import PairSet, PromptPair
from tasks.text.tokens import continuation

SITES: dict[SiteName, str] = {
    "resid_pre": "the residual stream before a layer",
    "attn_out": "what attention writes",
    "mlp_out": "what the MLP writes",
    "z": "each head's output",
}
DIRECTIONS: dict[Direction, str] = {"denoise": "restored", "noise": "lost"}
MAIN, BASELINE = "logit-difference", ("accuracy", "logit-difference")
TOP, DRAWN = 10, 40  # tokens shown; prompts drawn for each pair that is wanted, of any template


@dataclass(frozen=True)
class Question:
    """A task with its options, asked of the original's pair and of generated ones.

    control: a corruption after which the right answer no longer follows, and what it does.
    """

    name: str
    title: str
    task: str
    options: dict[str, Any] = field(default_factory=dict)
    control: tuple[str, str] | None = None

    def load(self, source: str) -> Generated:
        """The task that asks it."""
        task = tasks.load(self.task, source=source, **self.options)
        assert isinstance(task, Generated)
        return task


def questions(corruption: str) -> tuple[Question, ...]:
    """The three of them."""
    return (
        *(
            Question(
                f"comparison {order}",
                f"Who has won more titles, {size} number first",
                "comparison",
                {"order": order, "corruption": corruption},
            )
            for order, size in (("less-first", "smaller"), ("more-first", "larger"))
        ),
        Question(
            "name-copying",
            "The surname of a person named before",
            "name-copying",
            {"distance": 0},
            control=("first-name", "somebody else is introduced"),
        ),
    )


def main() -> None:
    """Train, ask, patch, print the tables."""
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    silence_libraries()
    out: Path = arguments.out
    source = arguments.model or small(
        out / "models", arguments.steps, arguments.tuning_steps, arguments.seed
    )
    model = HookedModel.from_pretrained(source, device=arguments.device)
    record: dict[str, Any] = {
        "settings": {key: str(value) for key, value in vars(arguments).items()},
        "model": describe_model(model).model_dump(mode="json"),
        "questions": {},
    }
    name = arguments.model or f"a small GPT-2, seed {arguments.seed}"
    sections = [f"# Patching two numbers and a name: {name}\n"]
    pages = []
    for question in questions(arguments.corruption):
        sections.append(f"## {question.title}\n")
        results: dict[str, dict[str, Any]] = {}
        record["questions"][question.name] = results
        for kind in ("original", "generated"):
            try:
                prompts, pairs = drawn(model, question, kind, arguments.pairs, arguments.seed)
            except CircuitsError as error:  # the tokenizer cannot put this question
                results[kind] = {"refused": str(error)}
                sections.append(f"### The {kind} pairs\n\nNot asked: {error}\n")
                continue
            figures: dict[str, Any] = {"data": describe_pairs(pairs).model_dump(mode="json")}
            results[kind] = figures
            sections.append(heading(kind, prompts, pairs))
            if kind == "original":
                figures["top"] = top_tokens(model, pairs[0])
                figures["names"] = names_of(model, prompts[0], pairs[0])
                sections += [top_table(figures["top"]), names_table(figures["names"])]
            figures["baseline"] = {
                side: baseline(model, pairs, BASELINE, side) for side in ("clean", "corrupted")
            }
            if question.control is not None:
                corruption, label = question.control
                control_question = replace(
                    question, options={**question.options, "corruption": corruption}
                )
                _, control_pairs = drawn(
                    model, control_question, kind, arguments.pairs, arguments.seed
                )
                figures["baseline"][label] = baseline(model, control_pairs, BASELINE, "corrupted")
            sections.append(baseline_table(figures["baseline"]))
            stem = f"{question.name} {kind}"
            sweeps = swept(model, prompts, pairs, out / "sweeps" / stem)
            figures["sweeps"] = {key: summary(sweep) for key, sweep in sweeps.items()}
            sections.append(sweeps_table(sweeps))
            pages.append(out / f"{stem.replace(' ', '-')}.html")
            subtitle = f"{name} · {kind} · n = {len(pairs)}"
            write_patchings(sweeps, pages[-1], question.title, subtitle)
    publish(out, sections, record, *pages)


def parsed() -> argparse.Namespace:
    """The arguments."""
    argument_parser = parser(__doc__, "runs/comparison", pairs=100, steps=1500)
    argument_parser.add_argument(
        "--tuning-steps", type=int, default=6000, help="of the small GPT-2's fine-tuning"
    )
    argument_parser.add_argument(
        "--corruption", default=CORRUPTIONS[0], choices=CORRUPTIONS, help="of the comparison"
    )
    return argument_parser.parse_args()


# -- questions


def drawn(
    model: HookedModel, question: Question, kind: str, n: int, seed: int
) -> tuple[list[Prompts], PairSet]:
    """Prompts and pairs of one template, so that a position means the same in each."""
    task = question.load(kind)
    is_original = kind == "original"
    count = 1 if is_original else n * (DRAWN if question.task == "name-copying" else 1)
    prompts = task.prompts(model.tokenizer, count, split="test", seed=seed)
    pairs = task.pairs(model.tokenizer, count, split="test", seed=seed, n_ctx=model.n_ctx)
    templates: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(prompts):
        templates[_without(text.clean, text.names)].append(number)
    indices = max(templates.values(), key=len)[:n]
    selected = tuple(pairs[index] for index in indices)
    return [prompts[index] for index in indices], replace(pairs, pairs=selected)


def _without(text: str, names: Sequence[str]) -> str:
    """The text without the names and numbers that fill its template."""
    words = (word.strip(".,:?") for word in text.split())
    return " ".join("_" if word in names or word.isdigit() else word for word in words)


@torch.no_grad()
def top_tokens(model: HookedModel, pair: PromptPair) -> dict[str, list[tuple[str, float]]]:
    """Tokens and probabilities, the most likely first, after the clean and the corrupted prompt."""
    batch = PairSet((pair,)).batch([0]).to(model.device)
    likeliest: dict[str, list[tuple[str, float]]] = {}
    for side in ("clean", "corrupted"):
        likely = model.logits(getattr(batch, side), batch)[0].softmax(dim=-1).topk(TOP)
        texts = [str(model.tokenizer.decode([token])) for token in likely.indices.tolist()]
        likeliest[side] = list(zip(texts, likely.values.tolist(), strict=True))
    return likeliest


@torch.no_grad()
def names_of(model: HookedModel, prompts: Prompts, pair: PromptPair) -> list[dict[str, Any]]:
    """Each name's probability, rank and log-probability after both prompts.

    A name of several tokens has the product of their probabilities and its first token's rank.
    """
    rows = []
    for name in prompts.names:
        tokens = continuation(model.tokenizer, prompts.clean, f" {name}")
        name_pair = replace(pair, answer=tuple((token,) for token in tokens), wrong=())
        batch = PairSet((name_pair,)).batch([0]).to(model.device)
        row: dict[str, Any] = {"name": name, "tokens": len(tokens)}
        for side in ("clean", "corrupted"):
            logits = model.logits(getattr(batch, side), batch).log_softmax(dim=-1)
            log_probs = logits.gather(1, batch.answer)[:, 0]
            row[side] = {
                "probability": float(log_probs.sum().exp()),
                "log_probability": float(log_probs.sum()),
                "rank": int((logits[0] > log_probs[0]).sum()) + 1,
            }
        rows.append(row)
    return rows


def swept(
    model: HookedModel, prompts: Sequence[Prompts], pairs: PairSet, stem: Path
) -> dict[str, Patching]:
    """Every site in both directions, by title; a sweep that is there is not run again."""
    metrics = [MAIN, "probability"]
    if len(pairs) == 1:
        one_token_names = [
            name
            for name in prompts[0].names
            if len(continuation(model.tokenizer, prompts[0].clean, f" {name}")) == 1
        ]
        metrics = [MAIN, *(f"probability: {name}" for name in one_token_names)]
    sweeps = {}
    for site, description in SITES.items():
        for direction, verb in DIRECTIONS.items():
            path = stem.with_name(f"{stem.name} {site} {direction}.json")
            title = f"{description[0].upper()}{description[1:]}: what is {verb} ({direction})"
            sweeps[title] = kept(model, pairs, site, direction, metrics, path)
    return sweeps


def kept(
    model: HookedModel,
    pairs: PairSet,
    site: SiteName,
    direction: Direction,
    metrics: Sequence[str],
    path: Path,
) -> Patching:
    """A sweep from its file, or run and written there."""
    if path.exists():
        sweep = Patching.load(path)
        origin = sweep.provenance
        if (origin.data, origin.model) != (describe_pairs(pairs), describe_model(model)):
            raise CircuitsError(
                f"{path}: belongs to another model or other pairs; write to another place, or "
                "delete it"
            )
        return sweep
    sweep = patch(
        model,
        pairs,
        PatchSpec(site, direction=direction),
        metrics=metrics,
        options=RunOptions(progress=True),
    )
    sweep.save(path)
    return sweep


def summary(found: Patching) -> dict[str, Any]:
    """What each patch does by the logit difference: 0 nothing, 1 the other run's."""
    if (error := found.undefined(MAIN)) is not None:
        return {"undefined": str(error)}
    effect = Effect.of(found, MAIN)
    rows = [axis.labels for axis in found.axes]
    return {"axes": rows, "words": effect.words, "value": _plain(effect.estimates.value.tolist())}


def _plain(values: Any) -> Any:
    """NaN as None, as JSON has it."""
    if isinstance(values, list):
        return [_plain(value) for value in values]
    return values if values == values else None


# -- tables


def heading(kind: str, prompts: Sequence[Prompts], pairs: PairSet) -> str:
    """What is asked."""
    example = prompts[0]
    title = "The original's pair" if kind == "original" else f"{len(pairs)} generated test pairs"
    return (
        f"### {title}\n\n- clean: {example.clean}\n- corrupted: {example.corrupted}\n"
        f"- answer: {str(example.answer).strip()}, not {str(example.wrong).strip()}\n"
    )


def baseline_table(found: dict[str, dict[str, Interval]]) -> str:
    """Question 1."""
    rows = [[side, *map(told, intervals.values())] for side, intervals in found.items()]
    return table(["prompt", *BASELINE], rows)


def top_table(found: dict[str, list[tuple[str, float]]]) -> str:
    """Question 2."""
    rows = [
        [str(rank), *(cell for text, p in pair for cell in (f"`{text}`", f"{p:.4f}"))]
        for rank, pair in enumerate(zip(*found.values(), strict=True), start=1)
    ]
    return table(["", "clean", "probability", "corrupted", "probability"], rows)


def names_table(found: list[dict[str, Any]]) -> str:
    """Question 3. The difference is to the answer, which is the first of the names."""
    sides = ("clean", "corrupted")
    rows = []
    for row in found:
        cells = [row["name"], str(row["tokens"])]
        for side in sides:
            gap = row[side]["log_probability"] - found[0][side]["log_probability"]
            cells += [f"{row[side]['probability']:.2g}", str(row[side]["rank"]), f"{gap:+.2f}"]
        rows.append(cells)
    head = [
        f"{quantity}, {side}"
        for side in sides
        for quantity in ("probability", "rank", "logit - its")
    ]
    return table(
        ["name", "tokens", *(column.replace("its", f"{found[0]['name']}'s") for column in head)],
        rows,
    )


def sweeps_table(found: dict[str, Patching]) -> str:
    """Question 4: the sites that matter most, of each sweep."""
    rows = []
    for sweep in found.values():
        if (reason := sweep.undefined(MAIN)) is not None:
            rows.append([sweep.site, sweep.direction, str(reason), "", ""])
            continue
        effect = Effect.of(sweep, MAIN).estimates
        value, low, high = (tensor.flatten() for tensor in (effect.value, effect.low, effect.high))
        strongest = [
            f"{sweep.name(index).partition(', ')[2]}: {value[index]:.2f}"
            + (f" [{low[index]:.2f}, {high[index]:.2f}]" if sweep.n > 1 else "")
            for index in sweep.ranked(MAIN)[:3]
        ]
        rows.append([sweep.site, f"{sweep.direction}: {DIRECTIONS[sweep.direction]}", *strongest])
    any_sweep = next(iter(found.values()))
    gap = float(any_sweep.clean[MAIN].mean() - any_sweep.corrupted[MAIN].mean())
    return f"Patching, as shares of a gap of {gap:.2f} in logit difference:\n\n" + table(
        ["site", "direction", "most", "second", "third"], rows
    )


if __name__ == "__main__":
    main()
