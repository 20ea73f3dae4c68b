"""How many gradients does a path need? Rules of quadrature on trained models.

    python scripts/study_quadrature.py [--checkpoint runs/quickstart/checkpoints/step-200 ...]
    python scripts/study_quadrature.py --model FOLDER --task ioi:corruption=abc [--task ...] --n 6

For each model and task: the relative L1 error of the mean scores of all edges, against 243
midpoints, by rule and number of steps; the estimate that each result holds beside it; what
steps="auto" spends and reaches. With --model it studies that one on the tasks named. Else models
are the embedded newsroom model, checkpoints given on the command line, and small ones trained here
from seed 0 (kept in --models, a minute or so each): induction, looking up a key's value in the
prompt, and indirect-object identification, in the shapes of GPT-2, Llama and Pythia. Prints
Markdown tables; all is seeded.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import transformers
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

import tasks
from circuits.attribution import method
from circuits.attribution.batch_scores import PathSamples, PathScores, relative_l1
from circuits.attribution.calibration import calibrated_weights
from circuits.attribution.engine import edge_samples
from circuits.attribution.quadrature import RULES, Rule, midpoint, rule
from circuits.errors import CircuitsError
from circuits.metrics import metric_for
from circuits.models import HookedModel
from tasks.pairs import PairSet, PromptPair

VOCABULARY, STEPS, BATCH, RATE, WARMUP = 64, 1500, 64, 2e-3, 50
EXAMPLES = 12
REFERENCE = 243
COUNTS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 27)
SHOWN = (3, 5, 10)
TARGET = 0.01
SEPARATOR, GAVE = 1, 2
NAMES, KEYS, VALUES = (4, 28), (4, 30), (34, 60)


def sized(
    kind: Callable[..., transformers.PreTrainedConfig], **more: object
) -> transformers.PreTrainedConfig:
    """A configuration of the toys' size."""
    return kind(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=32,
        bos_token_id=0,
        eos_token_id=0,
        **more,
    )


SHAPES: dict[str, Callable[[], transformers.PreTrainedConfig]] = {
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=64,
        n_layer=3,
        n_head=4,
        n_positions=32,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "llama": lambda: sized(
        transformers.LlamaConfig,
        intermediate_size=160,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    ),
    "pythia": lambda: sized(transformers.GPTNeoXConfig, intermediate_size=256),
}
TOYS = (
    ("gpt2", "induction"),
    ("gpt2", "key-value"),
    ("llama", "induction"),
    ("llama", "key-value"),
    ("llama", "ioi"),
    ("pythia", "induction"),
    ("pythia", "ioi"),
)


def distinct(n: int, size: int, ids: tuple[int, int], draw: torch.Generator) -> Tensor:
    """n rows of `size` different tokens."""
    return torch.stack(
        [torch.randperm(ids[1] - ids[0], generator=draw)[:size] + ids[0] for _ in range(n)]
    )


def induction(n: int, draw: torch.Generator) -> Tensor:
    """Random tokens, then the same again; 6 to 12 of them."""
    size = int(torch.randint(6, 13, (1,), generator=draw))
    return distinct(n, size, (4, VOCABULARY), draw).repeat(1, 2)


def key_value(n: int, draw: torch.Generator) -> Tensor:
    """Four keys with their values, a separator, the keys in another order with their values."""
    keys, values = distinct(n, 4, KEYS, draw), distinct(n, 4, VALUES, draw)
    order = distinct(n, 4, (0, 4), draw)
    queries = torch.stack([keys.gather(1, order), values.gather(1, order)], dim=2)
    body = torch.stack([keys, values], dim=2).flatten(1)
    return torch.cat([body, torch.full((n, 1), SEPARATOR), queries.flatten(1)], dim=1)


def ioi(n: int, draw: torch.Generator) -> Tensor:
    """Two names among filler, one of them again, then the other."""
    names, filler = distinct(n, 2, NAMES, draw), torch.randint(30, 60, (n, 8), generator=draw)
    subject_index = torch.randint(2, (n, 1), generator=draw)
    subject, other_name = names.gather(1, subject_index), names.gather(1, 1 - subject_index)
    gap, verb = torch.full((n, 1), SEPARATOR), torch.full((n, 1), GAVE)
    pieces = [filler[:, :3], names[:, :1], gap, names[:, 1:], filler[:, 3:7], subject]
    return torch.cat([*pieces, filler[:, 7:], verb, other_name], dim=1)


TASKS: dict[str, tuple[Callable[[int, torch.Generator], Tensor], Callable[[int], slice]]] = {
    "induction": (induction, lambda length: slice(length // 2, None)),
    "key-value": (key_value, lambda _: slice(9, None, 2)),
    "ioi": (ioi, lambda _: slice(-1, None)),
}
"""Texts, and the positions whose next token is learnt and asked for."""


def pair(task: str, draw: torch.Generator) -> PromptPair:
    """One prompt and its twin, which differ in the token that decides the answer."""
    ids = TASKS[task][0](1, draw)[0].tolist()

    def fresh(low: int, high: int) -> int:
        tokens: list[int] = torch.randint(low, high, (99,), generator=draw).tolist()
        return next(token for token in tokens if token not in ids)

    if task == "ioi":
        clean, right, wrong = ids[:-1], ids[-1], ids[10]
        position, replacement = 10, right
    else:
        half, position = len(ids) // 2, int(torch.randint(1, 4, (1,), generator=draw))
        position, end = (
            (position, half + position) if task == "induction" else (2 * position + 1, 10)
        )
        right = ids[position]
        wrong = replacement = fresh(4 if task == "induction" else VALUES[0], VALUES[1])
        clean = ids[:end] if task == "induction" else [*ids[:9], ids[position - 1]]
    corrupted = [*clean[:position], replacement, *clean[position + 1 :]]
    return PromptPair(tuple(clean), tuple(corrupted), ((right,),), ((wrong,),))


def trained(shape: str, task: str, folder: Path) -> HookedModel:
    """A small model that has learnt the task."""
    path = folder / f"{shape}-{task}"
    if not path.exists():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(SHAPES[shape]())
        draw = torch.Generator().manual_seed(0)
        texts, positions_of = TASKS[task]
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01
        )
        for step in (bar := tqdm(range(STEPS), desc=f"training {shape} on {task}")):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / WARMUP) * (1 - step / STEPS)
            ids = texts(BATCH, draw)
            positions = positions_of(ids.shape[1])
            logits, target = model(ids[:, :-1]).logits[:, positions], ids[:, 1:][:, positions]
            loss = cross_entropy(logits.flatten(0, 1), target.flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            bar.set_postfix(right=f"{float((logits.argmax(-1) == target).float().mean()):.2f}")
        model.save_pretrained(path)
    return HookedModel.from_pretrained(path, device="cpu")


@dataclass
class Subject:
    """A model on its pairs, with the gradient at each node computed once."""

    name: str
    model: HookedModel
    pairs: PairSet
    reference: int = REFERENCE
    counts: tuple[int, ...] = COUNTS

    def __post_init__(self) -> None:
        self.metric = metric_for(self.pairs)
        self.batch = self.pairs.batch([*range(len(self.pairs))])
        self.known: dict[float, PathSamples] = {}

    def scores(self, points: Rule) -> Tensor:
        """Scores (example, edge) by a rule, in float64."""
        samples = [self.at(node) for node in points.nodes]
        weights = torch.tensor(points.weights, dtype=torch.float64)[:, None]
        if points.calibrated:
            metric, slope = (
                torch.cat([getattr(point, name) for point in samples])
                for name in ("metric", "slope")
            )
            ends = (samples[0].corrupted, samples[0].clean)
            weights = calibrated_weights(points, metric, slope, *ends)
        total = torch.zeros(len(self.pairs), self.model.layout.n_edges, dtype=torch.float64)
        for sample, weight in zip(samples, weights, strict=True):
            assert sample.full_scores is not None
            total += weight[:, None] * sample.full_scores[:, self.model.layout.mask].double()
        return total

    def at(self, node: float) -> PathSamples:
        """One point's scores, metric and slope."""
        key = round(node, 12)
        if key not in self.known:
            one_point = Rule((node,), (1.0,))
            self.known[key] = edge_samples(self.model, self.batch, self.metric, one_point)
        return self.known[key]

    @cached_property
    def exact(self) -> Tensor:
        """The converged integral."""
        return self.scores(midpoint(self.reference))

    def error(self, scores: Tensor) -> float:
        """Relative L1 error of the mean scores."""
        return relative(scores.mean(dim=0), self.exact.mean(dim=0))


def relative(found: Tensor, exact: Tensor) -> float:
    """L1 error as a share of the exact values' L1 norm."""
    return float((found - exact).abs().sum() / exact.abs().sum())


def asked(source: str, names: list[str], n: int) -> Iterator[Subject]:
    """A model on tasks, each NAME[:KEY=VALUE[,KEY=VALUE]]."""
    model = HookedModel.from_pretrained(source, device="cpu")
    for spec in names:
        name, _, options = spec.partition(":")
        settings = dict(option.split("=", 1) for option in options.split(",") if option)
        pairs = tasks.load(name, **settings).pairs(model.tokenizer, n=n, split="test", seed=0)
        yield Subject(f"{Path(source).name} {spec}", model, pairs)


def subjects(checkpoints: list[Path], folder: Path) -> Iterator[Subject]:
    """All models with their pairs."""
    for source in ("newsroom-gpt2", *map(str, checkpoints)):
        model = HookedModel.from_pretrained(source, device="cpu")
        for corruption in ("counterfactual", "swap"):
            pairs = tasks.load("newsroom", corruption=corruption).pairs(
                model.tokenizer, n=EXAMPLES, split="validation", seed=0
            )
            yield Subject(f"{Path(source).name} {corruption}", model, pairs)
    for shape, task in TOYS:
        try:
            model = trained(shape, task, folder)
        except CircuitsError as refusal:
            print(f"{shape} {task}: not run ({refusal})", flush=True)
            continue
        draw = torch.Generator().manual_seed(1)
        pairs = PairSet(tuple(pair(task, draw) for _ in range(EXAMPLES)), metric="logit-difference")
        yield Subject(f"{shape} {task}", model, pairs)


def by_rule(subject: Subject) -> list[str]:
    """Error of each rule at some steps, and the steps from which it is below 1 %."""
    cells, counts = [], subject.counts
    shown_counts = SHOWN if counts == COUNTS else counts
    for name in RULES:
        errors = {steps: subject.error(subject.scores(rule(name, steps))) for steps in counts}
        failing_counts = [steps for steps in counts if errors[steps] > TARGET]
        n_enough = next((steps for steps in counts if steps > max(failing_counts, default=0)), None)
        percents = " / ".join(f"{100 * errors[steps]:.2f}" for steps in shown_counts)
        cells.append(f"{percents} (**{n_enough or f'> {counts[-1]}'}**)")
    return cells


def by_estimate(subject: Subject) -> list[str]:
    """The engine's own estimate of the error and the true one, in percent, by rule and steps."""
    cells = []
    for name in RULES:
        for steps in (5, 10):
            arguments = (subject.model, subject.batch, subject.metric, rule(name, steps))
            path_scores = edge_samples(*arguments).scores()
            doubt, mean = path_scores.doubt.mean(dim=0)[None], path_scores.scores.mean(dim=0)[None]
            estimate = float(relative_l1(doubt, mean, path_scores.stands_for))
            true_error = subject.error(subject.scores(rule(name, steps)))
            cells.append(f"{100 * estimate:.2f} : {100 * true_error:.2f}")
    return cells


def by_tolerance(subject: Subject) -> list[str]:
    """What steps="auto" spends and reaches: gradients, error of the mean, of the worst example."""
    cells = []
    for tolerance in (0.05, 0.02, 0.01):
        scorer = method("eap-ig", steps="auto", tolerance=tolerance)
        path_scores = scorer.scores(subject.model, subject.batch, subject.metric)
        assert isinstance(path_scores, PathScores)
        scores = path_scores.scores[:, subject.model.layout.mask].double()
        worst_error = max(map(relative, scores, subject.exact))
        cells.append(
            f"{float(path_scores.gradients.double().mean()):.1f} | "
            f"{100 * subject.error(scores):.2f} | {100 * worst_error:.2f}"
        )
    return cells


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, action="append", default=[])
    parser.add_argument("--model", help="study this one; the others are left out")
    parser.add_argument("--task", action="append", default=[], help="NAME[:KEY=VALUE,...]")
    parser.add_argument("--n", type=int, default=EXAMPLES, help="pairs of each --task")
    parser.add_argument(
        "--reference",
        type=int,
        default=REFERENCE,
        help="midpoints of the integral, a multiple of 3",
    )
    parser.add_argument(
        "--counts", type=int, nargs="+", default=COUNTS, help="numbers of steps, rising"
    )
    parser.add_argument("--models", type=Path, default=Path("runs/quadrature"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    tables: dict[str, list[str]] = {"rules": [], "estimate": [], "auto": []}
    if arguments.model:
        studied_subjects = asked(arguments.model, arguments.task, arguments.n)
    else:
        studied_subjects = subjects(arguments.checkpoint, arguments.models)
    for subject in studied_subjects:
        subject.reference, subject.counts = arguments.reference, tuple(arguments.counts)
        reference_error = subject.error(subject.scores(midpoint(arguments.reference // 3)))
        edges = subject.model.layout.n_edges
        print(
            f"{subject.name}: {edges} edges; reference known to {reference_error:.0e}", flush=True
        )
        for table, row in (
            ("rules", by_rule(subject)),
            ("estimate", by_estimate(subject)),
            ("auto", by_tolerance(subject)),
        ):
            line = f"| {subject.name} | {' | '.join(row)} |"
            tables[table].append(line)
            print(line, flush=True)
    counts = tuple(arguments.counts)
    counts_text = " / ".join(map(str, SHOWN if counts == COUNTS else counts))
    for table, header in (
        ("rules", [f"{name}: % at {counts_text} (steps for 1 %)" for name in RULES]),
        ("estimate", [f"{name} {steps}" for name in RULES for steps in (5, 10)]),
        ("auto", ["5 %: gradients | mean | worst", "2 %: ... ||", "1 %: ... ||"]),
    ):
        print(f"\n{table}\n| model, task | {' | '.join(header)} |", *tables[table], sep="\n")


if __name__ == "__main__":
    main()
