"""Redo the study of circuits behind fine-tuning for summaries, on any model and data.

    python scripts/reproduce_summarization.py --out runs/summarization
    python scripts/reproduce_summarization.py --recipe smollm2-samsum --set data=dialogues.jsonl \\
        --out runs/dialogues
    python scripts/reproduce_summarization.py --run runs/dialogues

Its five stages, in the order in which they were first reported, and the table or figure of each:

1. Fine-tuning with checkpoints: ROUGE, loss and accuracy of each.
2. Circuits of every checkpoint: size, faithfulness, and what another choice of examples gives.
3. What changed between checkpoints: edges that were added or removed with a node or rewired among
   nodes that stay, edges and nodes that changed beyond chance, each beside its noise.
4. Inside: KL and entropy of attention by layer, for the pairs of base, fine-tuned and LoRA; neurons
   that changed, changed sign, or undo fine-tuning where they are put back.
5. LoRAs on the layers that this points to, against random layers and all of them, at equal
   parameters and as first reported (rank 8, queries and values of three layers, unequal numbers).

--recipe is run as `circuits run` runs it, with what the study asks for beyond (LoRAs' circuits and
neurons put back), and goes on where it was stopped; --run only reads a finished run. Either way
`tables.md` is written beside the run's own files, and printed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path

from studies import table

from circuits.cli.options import silence_libraries
from circuits.format import count, counted, estimate, percent, signed
from circuits.pipeline import load_recipe, run
from circuits.runs import MissingResultError, RunFolder, open_run
from circuits.runtime.files import write_text
from circuits.tuning.lora_result import Spread

STUDY = (
    "lora.circuits=1",
    "model_diff.restore={candidates: 16, sizes: [1, 4, 16]}",
    "lora.conditions=[circuit,attention-kl,entropy,hidden-state,random,standard,original-circuit,"
    "original-standard]",
)
"""What the study asks for where a recipe does not say it; `--set` comes after."""


def quality(found: RunFolder) -> Iterator[str]:
    """What each checkpoint writes."""
    yield "## 1. Summaries by checkpoint\n"
    yield table(
        ["checkpoint", "ROUGE-1", "ROUGE-2", "ROUGE-L", "loss, nats a token", "token accuracy"],
        [
            [
                name,
                *map(
                    estimate,
                    (
                        scores.rouge1,
                        scores.rouge2,
                        scores.rougeL,
                        scores.loss,
                        scores.token_accuracy,
                    ),
                ),
            ]
            for name, scores in found.evaluation.quality.items()
        ],
    )


def circuits(found: RunFolder) -> Iterator[str]:
    """The circuit of each checkpoint, and how far it holds."""
    yield "## 2. Circuits\n"
    rows = []
    for name, checkpoint in found.evaluation.checkpoints.items():
        circuit, stability = checkpoint.circuit, checkpoint.stability
        rows.append(
            [
                name,
                f"{count(circuit.size)} ({percent(circuit.fraction)})",
                count(circuit.n_nodes),
                estimate(circuit.faithfulness),
                "not asked" if stability is None else estimate(stability.resample_jaccard),
                "not asked" if stability is None else estimate(stability.control),
            ]
        )
    head = ["checkpoint", "edges", "nodes", "f", "edges shared by resamples", "by random circuits"]
    yield table(head, rows)


def changes(found: RunFolder) -> Iterator[str]:
    """Nodes or edges?"""
    evolution = found.comparison
    yield f"## 3. What changed ({count(evolution.n)} examples)\n"
    rows = []
    for change in evolution.comparisons:
        size = change.middle
        rows.append(
            [
                f"{change.before} to {change.after}",
                f"{signed(size.edge_jaccard.between)} / {signed(size.edge_jaccard.within)}",
                estimate(size.edge_jaccard.gap),
                f"{estimate(size.rewired_share.estimate)} / {signed(size.rewired_share.within)}",
                f"{count(len(change.edges.changed))} of {count(change.edges.tested)}",
                f"{count(len(change.node_totals.changed))} of {count(change.node_totals.tested)}",
            ]
        )
    yield table(
        [
            "checkpoints",
            "edges shared / within one",
            "difference",
            "rewired share of turnover / by noise",
            "edges changed",
            "node totals changed",
        ],
        rows,
    )


def inside(found: RunFolder) -> Iterator[str]:
    """Attention, neurons, and layers by each criterion."""
    diff = found.model_diff.comparisons[0]
    yield f"## 4. Inside: {diff.model} against {diff.base} ({count(diff.n_documents)} prompts)\n"
    yield (
        f"Entropy of attention changed by {estimate(diff.mean_entropy_change, 4)} nats; "
        f"{estimate(diff.sharpened_fraction)} of the heads grew sharper.\n"
    )
    neurons = diff.neurons
    if neurons is not None:
        yield (
            f"Of {count(neurons.n_neurons)} neurons {count(neurons.n_changed)} changed, "
            f"{count(neurons.n_substantial)} substantially, {count(neurons.n_flipped)} their sign."
            "\n"
        )
    rows = [
        [criterion.criterion, ", ".join(map(str, criterion.critical))]
        for criterion in diff.critical_layers.criteria
    ]
    yield table(["criterion", "layers that changed most"], rows)


def attention(found: RunFolder) -> Iterator[str]:
    """KL of attention for the pairs of base, fine-tuned and LoRA."""
    yield "### Attention of base, fine-tuned and LoRA\n"
    comparison = found.lora_circuits
    rows = [
        [f"{diff.model} from {diff.base}", estimate(diff.kl, 4)] for diff in comparison.attention
    ]
    yield table(["models", "KL, nats"], rows)
    yield "### Does an adapter build the same circuit?\n"
    yield table(
        ["model", f"edges shared with {comparison.tuned} / within one", "difference"],
        [
            [
                overlap.model,
                f"{signed(overlap.middle.edge_jaccard.between)} / "
                f"{signed(overlap.middle.edge_jaccard.within)}",
                estimate(overlap.middle.edge_jaccard.gap),
            ]
            for overlap in comparison.overlaps
        ],
    )


def neurons(found: RunFolder) -> Iterator[str]:
    """What putting neurons back undoes."""
    restoration = found.restoration
    yield f"### Neurons that get the activations of {restoration.base} ({restoration.metric})\n"
    rows = [
        [neuron_set.kind, count(neuron_set.size), estimate(neuron_set.undone)]
        for neuron_set in restoration.sets
        if neuron_set.kind not in ("alone", "random")
    ]
    yield table(["chosen", "neurons", "share of the change undone"], rows)


def loras(found: RunFolder) -> Iterator[str]:
    """The conditions, and every difference in words."""
    comparison = found.lora
    yield (
        f"## 5. LoRAs ({count(comparison.steps)} steps, {counted(len(comparison.seeds), 'seed')})\n"
    )
    rows = []
    for target in comparison.targets:
        rouge = comparison.spread(target.name, lambda means: means.rougeL)
        loss = comparison.spread(target.name, lambda means: means.loss)
        layers = dict.fromkeys(
            ", ".join(map(str, lora_run.layers)) for lora_run in comparison.of(target.name)
        )
        rows.append(
            [
                target.name,
                " / ".join(layers),
                count(comparison.parameters(target.name)),
                _over_runs(rouge),
                _over_runs(loss),
            ]
        )
    yield table(["condition", "layers", "parameters", "ROUGE-L", "held-out loss"], rows)
    yield from (
        f"- {difference.score}: {difference.verdict}" for difference in comparison.differences
    )


def _over_runs(spread: Spread) -> str:
    run_range = "" if math.isnan(spread.sd) else f" ({signed(spread.low)} to {signed(spread.high)})"
    return signed(spread.mean) + run_range


PARTS: tuple[Callable[[RunFolder], Iterator[str]], ...] = (
    quality,
    circuits,
    changes,
    inside,
    attention,
    neurons,
    loras,
)


def tables(found: RunFolder) -> str:
    """All tables as Markdown; what the run was not asked for is a line that says so."""
    lines = []
    for section in PARTS:
        try:
            lines += list(section(found))
        except MissingResultError as missing:
            lines.append(f"({section.__name__}: {missing})\n")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the recipe, or read the run, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="quickstart", help="as for circuits run")
    parser.add_argument("--out", type=Path, default=Path("runs/summarization"))
    parser.add_argument("--set", action="append", default=[], help="as for circuits run")
    parser.add_argument("--run", type=Path, help="a finished run: nothing is run")
    options = parser.parse_args()
    folder: Path = options.run or options.out
    if options.run is None:
        silence_libraries()
        run(load_recipe(options.recipe, [*STUDY, *options.set]), folder)
    text = tables(open_run(folder))
    write_text(folder / "tables.md", text)
    print(text)
    print(f"wrote {folder / 'tables.md'}")


if __name__ == "__main__":
    main()
