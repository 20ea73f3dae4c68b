"""Redo the study of the transitive property problem, on any model, with one command.

    python scripts/reproduce_transitive.py --out runs/transitive
    python scripts/reproduce_transitive.py --model gpt2 --search-pairs 1150 --pairs 3000 \
        --examples 10000 --epochs 3 --learning-rate 5e-5

"a is b. b is c. a is" is followed by c, with random nouns. A base model is fine-tuned on 10, 30 and
50 % of the training examples, and these questions are put to it and to each fine-tuned model:

1. Baseline: accuracy, log-probability of c, logit difference between c and b; and the same figures
   where the link is cut ("a is b. x is c. a is"), so that c no longer follows. A model that still
   says c has learned where c stands, not that the relation is transitive.
2. ACDC over nodes, by metric and threshold: how many heads and MLPs stay, and what they reach.
3. The circuit found on one model, run on each other: a table of faithfulness, beside circuits of as
   many random heads and MLPs.
4. Heads that attend to the answer's token, in each model.
5. Roles of the heads that stay.

Without --model, a small GPT-2 with a tokenizer of its own is trained first, on lists of nouns and
on prompts of the task followed by b, what the text says of a directly: it knows how to copy and
never sees c. Written to --out: `models/`, `tables.md`, `tables.json`. A second run goes on with the
models and searches that are there.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import torch
from small_gpt2 import Settings, repeated, train, word_tokenizer
from studies import Interval, baseline, parser, publish, table, told
from torch import Tensor

import tasks
from circuits.cli.options import silence_libraries
from circuits.comparison import cross_evaluate
from circuits.graph import Circuit
from circuits.intervention import CircuitRunner
from circuits.metrics import METRICS as KNOWN
from circuits.model_diff import ModelDiff, diff_models
from circuits.models import HookedModel, load_model
from circuits.options.tuning import FinetuneSettings
from circuits.report import narrative
from circuits.runtime.batching import over_batches
from circuits.search import AcdcConfig, Search, acdc
from circuits.tuning.finetune import finetune
from tasks.builtin.transitive.nouns import read_nouns
from tasks.builtin.transitive.task import TEMPLATES
from tasks.pairs import PairBatch, PairSet
from tasks.task import TrainableTask

FRACTIONS = (0.1, 0.3, 0.5)
METRICS = ("accuracy", "answer-log-probability", "logit-difference")
THRESHOLDS = (0.02, 0.05, 0.1, 0.2)
CONTROLS = 10  # random circuits beside each
NOUNS = 240  # known to the small GPT-2


def main() -> None:
    """Train, fine-tune, search, print the tables."""
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    silence_libraries()
    out: Path = arguments.out
    base = arguments.model or small(out / "models" / "base", arguments.steps, arguments.seed)
    folders = {"base": base}
    for fraction in FRACTIONS:
        folders[f"{fraction:.0%}"] = tuned(base, fraction, arguments)
    models = {
        name: HookedModel.from_pretrained(folder, device=arguments.device)
        for name, folder in folders.items()
    }
    task = tasks.load("transitive", corruption=arguments.corruption)
    tokenizer = models["base"].tokenizer
    draw = {"seed": arguments.seed, "n_ctx": models["base"].n_ctx}
    search_pairs = task.pairs(tokenizer, arguments.search_pairs, split="validation", **draw)
    test_pairs = task.pairs(tokenizer, arguments.pairs, split="test", **draw)
    tuned_models = {name: model for name, model in models.items() if name != "base"}

    record: dict[str, Any] = {
        "settings": {key: str(value) for key, value in vars(arguments).items()},
        "search_pairs": len(search_pairs),
        "pairs": len(test_pairs),
    }
    title = arguments.model or f"a small GPT-2, seed {arguments.seed}"
    sections = [f"# The transitive property problem: {title}\n"]
    unlink_task = tasks.load("transitive", corruption="unlink")
    unlinked_pairs = unlink_task.pairs(tokenizer, arguments.pairs, split="test", **draw)
    for name, pairs, side in (
        ("baseline", test_pairs, "clean"),
        ("unlinked", unlinked_pairs, "corrupted"),
    ):
        record[name] = {key: baseline(model, pairs, METRICS, side) for key, model in models.items()}
    sections.append(baseline_table("Baseline", record["baseline"], len(test_pairs)))
    sections.append(
        baseline_table("The link cut: c does not follow", record["unlinked"], len(test_pairs))
    )
    searches = {
        (name, metric, threshold): searched_nodes(
            model,
            search_pairs,
            metric,
            threshold,
            out / "searches" / f"{name} {metric} {threshold}",
        )
        for name, model in tuned_models.items()
        for metric in METRICS
        for threshold in THRESHOLDS
    }
    record["acdc"] = [
        {"model": name, "metric": metric, "threshold": threshold, **summary(search)}
        for (name, metric, threshold), search in searches.items()
    ]
    sections.append(acdc_table(searches, len(search_pairs)))
    circuits_by_name = {
        name: searches[name, "logit-difference", arguments.threshold].circuit
        for name in tuned_models
    }
    crossed = cross_evaluate(tuned_models, circuits_by_name, test_pairs, metric="logit-difference")
    record["cross_evaluation"] = crossed.to_json()
    control = {
        name: controls(models[name], circuits_by_name[name], test_pairs)
        for name in circuits_by_name
    }
    record["random_nodes"] = control
    sections.append(
        cross_evaluation_table(
            crossed, control, circuits_by_name, tuned_models, test_pairs, arguments.threshold
        )
    )
    diffs = {
        name: diff_models(model, models["base"], test_pairs[: arguments.head_type_pairs])
        for name, model in tuned_models.items()
    }
    record["head_types"] = head_types_of(diffs, circuits_by_name)
    sections.append(head_type_tables(record["head_types"]))
    publish(out, sections, record)


def parsed() -> argparse.Namespace:
    """The arguments."""
    argument_parser = parser(__doc__, "runs/transitive", pairs=1000, steps=2000)
    argument_parser.add_argument(
        "--examples", type=int, default=2000, help="training examples, 100 %%"
    )
    argument_parser.add_argument("--epochs", type=int, default=5, help="over each share of them")
    argument_parser.add_argument("--learning-rate", type=float, default=1e-3, help="the highest")
    argument_parser.add_argument(
        "--search-pairs", type=int, default=200, help="validation pairs for ACDC"
    )
    argument_parser.add_argument(
        "--head-type-pairs", type=int, default=60, help="test pairs for head types"
    )
    argument_parser.add_argument(
        "--threshold",
        type=float,
        default=0.05,
        choices=THRESHOLDS,
        help="of the crossed circuits",
    )
    argument_parser.add_argument(
        "--corruption", default="exchange", help="exchange, replace or unlink"
    )
    return argument_parser.parse_args()


# -- models


def small(folder: Path, steps: int, seed: int) -> str:
    """A small GPT-2 that copies, and that answers with b."""
    nouns = random.Random("transitive nouns").sample(list(read_nouns("own")), NOUNS)

    def one_link(rng: random.Random) -> str:
        a, b, x, c = rng.sample(nouns, 4)
        return f"{rng.choice(TEMPLATES).format(a=a, b=b, x=rng.choice((b, x)), c=c)} {b}."

    tokenizer = word_tokenizer(nouns, TEMPLATES)
    documents = {repeated(nouns): 0.7, one_link: 0.3}
    train(folder, tokenizer, documents, Settings(steps=steps, seed=seed))
    return str(folder)


def tuned(base: str, fraction: float, arguments: argparse.Namespace) -> str:
    """The base fine-tuned on a share of the examples; every share is inside the larger ones."""
    network, tokenizer = load_model(base, device=arguments.device)
    if tokenizer is None:
        raise SystemExit(f"{base}: no tokenizer beside the model")
    task = tasks.load("transitive", fraction=fraction)
    assert isinstance(task, TrainableTask)
    examples = task.examples(tokenizer, arguments.examples, split="train", seed=arguments.seed)
    batch = min(32, len(examples))
    steps = max(1, arguments.epochs * len(examples) // batch)
    result = finetune(
        network.train(),
        examples,
        arguments.out / "models" / f"{fraction:.0%}",
        settings=FinetuneSettings(
            steps=steps,
            learning_rate=arguments.learning_rate,
            warmup_steps=min(10, steps),
            batch_size=batch,
            seed=arguments.seed,
        ),
        tokenizer=tokenizer,
    )
    return str(result.last)


# -- questions


def accuracy(model: HookedModel, pairs: PairSet, circuits: list[Circuit]) -> list[float]:
    """Share of pairs that a model answers rightly with each circuit alone."""
    totals = torch.zeros(len(circuits), dtype=torch.float64)

    def work(hooked: HookedModel, batch: PairBatch) -> Tensor:
        executor = CircuitRunner(hooked, batch)
        hits = [KNOWN["accuracy"](executor.logits(circuit), batch).sum() for circuit in circuits]
        return torch.stack(hits).double().cpu()

    for _, n_right in over_batches(model, pairs, work):
        totals += n_right
    return [float(total) / len(pairs) for total in totals]


def controls(model: HookedModel, circuit: Circuit, pairs: PairSet) -> list[float | None]:
    """f of circuits of as many random heads and MLPs as the given one has."""
    layout = circuit.layout
    node_rows = [row for row in range(layout.shape[0]) if row not in layout.roots]
    count = int(circuit.mask[node_rows].any(dim=1).sum())
    random_circuits = {}
    for draw in range(CONTROLS):
        rows = [*layout.roots, *random.Random(f"nodes {draw}").sample(node_rows, count)]
        mask = torch.zeros_like(layout.mask)
        mask[rows] = layout.mask[rows]
        random_circuits[f"random {draw}"] = Circuit(layout, mask).pruned()
    crossed = cross_evaluate({"model": model}, random_circuits, pairs, metric="logit-difference")
    estimates = [crossed.f("model", name) for name in random_circuits]
    return [None if f is None else f.value for f in estimates]


def searched_nodes(
    model: HookedModel, pairs: PairSet, metric: str, tau: float, path: Path
) -> Search:
    """ACDC over nodes; a finished search is not run again."""
    file = path.with_name(f"{path.name}.json")
    config = AcdcConfig(tau, relative_to="current", level="node")
    search = acdc(model, pairs, config, metric=metric, resume=file)
    search.save(file)
    return search


def summary(search: Search) -> dict[str, Any]:
    """What a table says of a search."""
    return {
        "nodes": list(search.nodes),
        "edges": len(search.circuit),
        "metric_model": search.metric_model,
        "metric_circuit": search.metric_circuit,
        "metric_empty": search.metric_empty,
    }


def head_types_of(diffs: dict[str, ModelDiff], circuits: dict[str, Circuit]) -> dict[str, Any]:
    """Per model: heads of each type, and which of them stay in the model's circuit."""
    record: dict[str, Any] = {}
    for name, diff in diffs.items():
        circuit_nodes = set(circuits[name].nodes)
        record[name] = {
            head_type.name: {
                "heads": list(head_type.heads),
                "kept": [head for head in head_type.heads if head in circuit_nodes],
                "mass": {
                    f"a{layer}.h{head}": float(value)
                    for layer, row in enumerate(head_type.model.value)
                    for head, value in enumerate(row)
                },
                "chance": head_type.chance,
            }
            for head_type in diff.head_types
        }
    return record


# -- tables


def baseline_table(title: str, found: dict[str, dict[str, Interval]], n: int) -> str:
    """Question 1."""
    rows = [[name, *map(told, intervals.values())] for name, intervals in found.items()]
    return f"## {title}, {n} test pairs\n\n" + table(["model", *METRICS], rows)


def acdc_table(found: dict[tuple[str, str, float], Search], n: int) -> str:
    """Question 2."""
    names = list(dict.fromkeys(name for name, _, _ in found))
    rows = []
    for metric in METRICS:
        for threshold in THRESHOLDS:
            searches = [found[name, metric, threshold] for name in names]
            cells = [
                f"{len(s.nodes)} ({s.metric_circuit:.2f} of {s.metric_model:.2f})" for s in searches
            ]
            rows.append([metric, f"{threshold:.0%}", *cells])
    return (
        f"## ACDC: heads and MLPs that stay, and the metric with them, {n} validation pairs\n\n"
        + table(["metric", "threshold", *names], rows)
    )


def cross_evaluation_table(
    crossed: Any,
    control: dict[str, list[float | None]],
    circuits: dict[str, Circuit],
    models: dict[str, HookedModel],
    pairs: PairSet,
    threshold: float,
) -> str:
    """Question 3: faithfulness, and accuracy with the circuit alone."""
    names = list(circuits)
    rows = []
    for name, model in models.items():
        hits = accuracy(model, pairs, list(circuits.values()))
        cells = []
        for index, circuit_name in enumerate(names):
            f = crossed.f(name, circuit_name)
            cells.append(f"{'undefined' if f is None else f}, accuracy {hits[index]:.2f}")
        control_f = [f for f in control[name] if f is not None]
        mean = sum(control_f) / len(control_f) if control_f else None
        cells.append(
            "undefined"
            if mean is None
            else f"{mean:.3f}, {min(control_f):.3f} to {max(control_f):.3f}"
        )
        rows.append([name, *cells])
    last_column = f"as many random nodes: mean, range of {CONTROLS}"
    return (
        f"## Circuits by logit difference at {threshold:.0%}, run on each other model: "
        f"faithfulness, {len(pairs)} test pairs\n\n"
        + table(["model", *(f"circuit of {name}" for name in names), last_column], rows)
        + f"\n{narrative.cross_evaluation(crossed)}\n"
    )


def head_type_tables(record: dict[str, Any]) -> str:
    """Questions 4 and 5."""
    rows = []
    for name, roles in record.items():
        answer_role = roles.get("answer", {"heads": [], "mass": {}, "chance": float("nan")})
        top_heads = sorted(answer_role["mass"].items(), key=lambda item: -item[1])[:4]
        top_text = ", ".join(f"{head} {mass:.2f}" for head, mass in top_heads)
        rows.append(
            [
                name,
                ", ".join(answer_role["heads"]) or "none",
                top_text,
                f"{answer_role['chance']:.2f}",
            ]
        )
    role_table = table(["model", "heads with the role", "most of their attention", "chance"], rows)
    all_roles = list(dict.fromkeys(role for roles in record.values() for role in roles))
    counts = [
        [
            name,
            *(
                f"{len(roles[r]['kept'])} of {len(roles[r]['heads'])}" if r in roles else "-"
                for r in all_roles
            ),
        ]
        for name, roles in record.items()
    ]
    return (
        f"## Heads attending to the answer's token\n\n{role_table}\n"
        "## Roles: heads that stay in the circuit, of all heads with the role\n\n"
        + table(["model", *all_roles], counts)
    )


if __name__ == "__main__":
    main()
