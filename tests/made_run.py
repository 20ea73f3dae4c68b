"""A run folder made of the real classes, filled with numbers that hang together."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from made_adapters import lora_circuits, restoration
from made_training import estimate, lora, training_log

from circuits.comparison import compare
from circuits.comparison.cross_evaluation import CrossEvaluation, Row
from circuits.evaluation import (
    CheckpointEvaluation,
    CircuitSummary,
    Evaluation,
    PairsUsed,
    SummaryQuality,
    Undefined,
)
from circuits.evaluation.circuit_tests import CircuitTests, EquivalenceTest, IndependenceTest
from circuits.evaluation.clusters import Clusters
from circuits.evaluation.completeness import Completeness, Knockout
from circuits.evaluation.faithfulness import Curve, Faithfulness
from circuits.evaluation.minimality import Minimality
from circuits.evaluation.null_model import NullDraw, NullModel
from circuits.evaluation.reliability import reliability
from circuits.evaluation.rivals import RivalCircuit, Rivals
from circuits.evaluation.robustness import Accuracy, Condition
from circuits.evaluation.stability import stability
from circuits.evaluation.task_performance import TaskPerformance
from circuits.evaluation.worst_examples import WorstExamples
from circuits.graph import Circuit, EdgeScores, Layout, Provenance, select
from circuits.graph.provenance import DataRecord, ModelRecord, Versions
from circuits.intervention.patching import Axis, Patching
from circuits.model_diff.diff import ModelDiffs, summarize
from circuits.model_diff.documents import DocumentDiffs
from circuits.runs.records import Environment, ExampleFile, ExampleSentence, Segment
from circuits.runtime.files import write_text

ORDER = ("base", "step-100", "step-200", "step-300")
LAYOUT = Layout(n_layers=4, n_heads=4, n_kv_heads=4)
FRACTIONS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
N = 24


def curve(name: str, exponent: float) -> Curve:
    sizes = tuple(max(1, round(share * LAYOUT.n_edges)) for share in FRACTIONS)
    values = tuple(estimate(share**exponent, 0.05 * (1 - share)) for share in FRACTIONS)
    area = 1 / (1 + exponent)
    areas = (estimate(area), estimate(1 - area), estimate(area / 2))
    kept = tuple(map(float, sizes))
    alive = (None,) * len(sizes)
    return Curve("edge", name, FRACTIONS, sizes, kept, values, *areas, alive, values)


def faithfulness(place: int) -> Faithfulness:
    return Faithfulness(
        "edge",
        "logit-difference",
        0.2 + 1.5 * place,
        -0.1 - place,
        FRACTIONS,
        {
            "signed": curve("signed", 0.1),
            "absolute": curve("absolute", 0.15),
            "random": curve("random", 3.0),
        },
        100,
        "widest-path",
        estimate(0.95),
    )


def completeness() -> Completeness:
    def knocked(*nodes: str) -> Knockout:
        return Knockout(nodes, estimate(0.5), estimate(0.52), estimate(0.02), estimate(0.4))

    sets = tuple(knocked(f"a0.h{place}") for place in range(3))
    return Completeness(
        "node", estimate(0.021), estimate(0.39), sets, knocked("m0", "a1.h2"), 50, 3
    )


def minimality(circuit: Circuit, draw: torch.Generator) -> Minimality:
    drops = torch.rand(len(circuit), generator=draw).pow(4) * 0.4 - 0.01
    drops = drops.sort(descending=True).values.tolist()
    control = (torch.randn(30, generator=draw) * 0.004).tolist()
    inside = dict(zip(circuit.edges, (estimate(drop, 0.012, 32) for drop in drops), strict=True))
    others = (LAYOUT.mask & ~circuit.mask).nonzero()[:30].tolist()
    outside = {
        LAYOUT.edge_name(*place): estimate(change, 0.004, 32)
        for place, change in zip(others, control, strict=True)
    }
    return Minimality("edge", estimate(0.91), inside, outside, 0.005)


def accuracy() -> Accuracy:
    return Accuracy(estimate(0.97), estimate(0.1), estimate(0.88), estimate(0.5))


def doubts() -> dict[str, object]:
    """Every answer but that of backups, which is the reason why there is none."""
    inside = Condition(
        "logit-difference", estimate(0.9), estimate(0.1), 4.0, -3.0, None, accuracy()
    )
    beyond = RivalCircuit(2, 96, estimate(0.4), estimate(0.5), 0.75)
    return {
        "ablations": {
            "corrupted": inside,
            "zero": Condition("logit-difference", None, None, undefined_reason="post-norm model"),
        },
        "worst": WorstExamples(estimate(0.3), estimate(-0.1), 10, 0.2, (("row 7", -0.25),)),
        "rivals": Rivals(estimate(0.91), (beyond,)),
        "null_model": NullModel(
            *("shuffled", estimate(0.8), estimate(0.1), estimate(0.97)),
            (NullDraw(40, estimate(0.3), estimate(0.2), estimate(0.5)),),
            estimate(0.5),
        ),
        "backups": Undefined(undefined_reason="equal metrics of backups"),
        "clusters": Clusters(
            "edge",
            0.4,
            0.6,
            0.005,
            (14, 10),
            (0,) * 14 + (1,) * 10,
            (("m0->logits", 0.4, 0.1),),
            24,
        ),
        "tests": CircuitTests(EquivalenceTest(3, 97, 0.1, 0.001), IndependenceTest(0.2, 0.4, 100)),
    }


def robustness(place: int) -> dict[str, Condition]:
    vanishing = "faithfulness is not defined: the metric is 0 on both"
    return {
        "evaluate": Condition(
            "logit-difference", estimate(0.91), estimate(0.04), 4.0, -3.0, None, accuracy()
        ),
        "filler": Condition("answer-log-probability", estimate(0.55), estimate(0.05), -1.0, -9.0),
        "shuffle": Condition("answer-log-probability", estimate(0.06), estimate(0.05), -1.0, -3.0)
        if place
        else Condition("answer-log-probability", None, None, undefined_reason=vanishing),
    }


def write_scores(folder: Path, draw: torch.Generator) -> list[EdgeScores]:
    heavy = torch.randn(LAYOUT.shape, generator=draw).pow(3) * 0.03
    made = []
    for place, name in enumerate(ORDER):
        drift = torch.randn(LAYOUT.shape, generator=draw).pow(3) * 0.02
        mean = (heavy * min(1.0, 0.15 + place * 0.4) + drift / (1 + place)) * LAYOUT.mask
        noise = torch.randn(N, *LAYOUT.shape, generator=draw) * 0.02 * LAYOUT.mask
        each = mean + noise
        made_from = Provenance(
            settings={"steps": 5, "quadrature": "midpoint"},
            metric="logit-difference",
            data=DataRecord(task="newsroom", split="validation", n=N, fingerprint="da7a"),
            model=ModelRecord(
                name=name,
                architecture="GPT2LMHeadModel",
                dtype="float32",
                fingerprint=f"0de1{place}",
            ),
        )
        scores = EdgeScores(each.mean(dim=0), LAYOUT, "eap-ig", made_from, each)
        scores.save(folder / "scores", name)
        select(scores, size=48).save(folder / "circuits" / f"{name}.json")
        made.append(scores)
    return made


def write_evaluation(folder: Path, draw: torch.Generator) -> None:
    checkpoints = {}
    for place, name in enumerate(ORDER):
        circuit = Circuit.load(folder / "circuits" / f"{name}.json")
        scores = EdgeScores.load(folder / "scores" / f"{name}.safetensors")
        checkpoints[name] = CheckpointEvaluation(
            circuit=CircuitSummary(
                level="edge",
                size=len(circuit),
                fraction=circuit.fraction,
                n_nodes=len(circuit.nodes),
                ablation="corrupted",
                faithfulness=estimate(0.913, 0.02),
                degenerate_reason=None,
                choice=None,
            ),
            faithfulness=faithfulness(place),
            minimality=minimality(circuit, draw),
            completeness=completeness(),
            robustness=robustness(place),
            stability=stability(scores, size=48, n_resamples=20),
            reliability=reliability(scores, size=48),
            performance=performance(),
            **doubts(),
        )
    Evaluation(
        order=ORDER,
        checkpoints=checkpoints,
        quality={name: quality(place) for place, name in enumerate(ORDER)},
        pairs={
            "score": PairsUsed(n=N, split="validation", fingerprint="da7a"),
            "evaluate": PairsUsed(n=100, split="test", fingerprint="7e57"),
        },
    ).save(folder / "evaluation.json")


def quality(place: int) -> SummaryQuality:
    """Of the checkpoint at this place of the order: each is better than the one before."""
    return SummaryQuality(
        loss=estimate(4.6 / (1 + 9 * place), 0.02),
        token_accuracy=estimate((0.363, 0.878, 0.956, 0.977)[place], 0.02),
        rouge1=estimate((0.045, 0.837, 0.945, 0.970)[place], 0.02),
        rouge2=estimate((0.002, 0.672, 0.884, 0.931)[place], 0.02),
        rougeL=estimate((0.0441, 0.8312, 0.9413, 0.9674)[place], 0.02),
        exact_match=estimate((0.0, 0.25, 0.69, 0.8)[place], 0.02),
        n=100,
    )


def write_model_diff(folder: Path, draw: torch.Generator) -> None:
    heads, layers = (16, 4, 4), (16, 4)

    def random(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.rand(shape, generator=draw, dtype=torch.float64)

    before = random(heads) * 2
    documents = DocumentDiffs(
        kl=random(heads).pow(3),
        entropy=before - 0.2 + random(heads) * 0.3,
        entropy_base=before,
        cosine=1 - random(layers) * torch.linspace(0.1, 0.5, 4),
        activation=random(layers),
        activation_base=random(layers),
        stream_change=random(layers) + 0.1,
        update_change=random(layers) + 0.2,
        head_masses={},
        neurons=None,
    )
    ModelDiffs(
        task="newsroom",
        split="validation",
        models={name: name for name in ORDER},
        comparisons=(summarize(documents, ("step-300", "base"), n_resamples=100),),
        trajectory=None,
    ).save(folder / "model_diff.json")


def write_cross_evaluation(path: Path, models: tuple[str, ...] = ORDER) -> None:
    rows = [
        Row(
            model,
            0.2 + place,
            -0.1 - place,
            tuple(estimate(0.9 - 0.2 * abs(place - other)) for other in range(len(models))),
            tuple(estimate(0.2 * abs(place - other)) for other in range(len(models))),
            estimate(0.02),
        )
        for place, model in enumerate(models)
    ]
    vanishing = "faithfulness is not defined: <both> are 0"
    rows[0] = Row("base", math.nan, math.nan, undefined=vanishing)
    CrossEvaluation(
        metric="logit-difference",
        data=DataRecord(task="newsroom", split="test", n=100, fingerprint="7e57"),
        pairs=tuple(f"pair-{number}" for number in range(100)),
        n=100,
        circuits=models,
        sizes=tuple(range(40, 40 + len(models))),
        rows=tuple(rows),
    ).save(path)


def patching() -> Patching:
    """Two layers by two positions, on five examples."""
    values = torch.rand(5, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    ends = torch.arange(5.0).double()
    return Patching(
        site="resid_pre",
        direction="denoise",
        axes=(Axis("layer", (0, 1), ("layer 0", "layer 1")), Axis("position", (0, 1), ("a", "b"))),
        values={"m": values},
        clean={"m": ends + 2},
        corrupted={"m": ends},
    )


def performance() -> TaskPerformance:
    """Of a model that does the task."""
    return TaskPerformance(
        metric="logit-difference",
        clean=estimate(3.0, n=N),
        corrupted=estimate(0.5, n=N),
        difference=estimate(2.5, n=N),
        accuracy=estimate(0.9, n=N),
        corrupted_accuracy=estimate(0.4, n=N),
        chance=0.5,
        choice=True,
    )


def write_rest(folder: Path) -> None:
    write_text(
        folder / "recipe.yaml", "name: fake\nmodel: newsroom-gpt2\ntask:\n  name: newsroom\n"
    )
    Environment(
        versions=Versions(
            circuits="0.1.0", torch="2.13.0", transformers="5.0", transformer_lens="4.3"
        ),
        python="3.11",
        platform="Linux",
        threads=2,
        device="cpu",
        seconds={"pairs": 0.4, "scores/base": 6.1},
    ).save(folder / "environment.json")
    training_log().save(folder / "checkpoints" / "training_log.json")
    sentences = (
        ("Rain <b>fell</b> & fell in Ardon.", 0.0, False),
        ("Lena Voss resigned as mayor of Ardon.", 0.8, True),
        ("The step came after protests.", 0.2, True),
        ("A concert in Brill drew many visitors.", 0.0, False),
    )
    corruptions = {
        "counterfactual": (
            ("Rain <b>fell</b> & fell in Ardon. ", False),
            ("Otto Grau ", True),
            ("resigned as ", False),
            ("judge ", True),
            ("of ", False),
            ("Senn. ", True),
            ("The step came after ", False),
            ("threats. ", True),
            ("A concert in Brill drew many visitors. TL;DR:", False),
        ),
        "filler": (
            ("Rain fell in Ardon.", False),
            ("<|endoftext|><|endoftext|>", True),
            (" TL;DR:", False),
        ),
    }
    ExampleFile(
        title="newsroom test article 0",
        sentences=tuple(
            ExampleSentence(text=text, score=score, salient=salient)
            for text, score, salient in sentences
        ),
        answer="Lena Voss resigned as mayor of Ardon after protests.",
        clean_prompt=" ".join(text for text, _, _ in sentences) + " TL;DR:",
        corruptions={
            name: tuple(Segment(text=text, corrupted=there) for text, there in pieces)
            for name, pieces in corruptions.items()
        },
    ).save(folder / "pairs" / "example.json")


def write_run(folder: Path) -> None:
    """A complete run folder."""
    draw = torch.Generator().manual_seed(0)
    scores = write_scores(folder, draw)
    write_evaluation(folder, draw)
    found = compare(scores, names=ORDER, sizes=(0.02, 0.05, 0.1), n_resamples=60)
    found.save(folder / "comparison.json")
    write_cross_evaluation(folder / "cross_evaluation.json")
    write_model_diff(folder, draw)
    beside = lora_circuits(found, ORDER[0], ORDER[-2], ORDER[-1])
    beside.save(folder / "lora_circuits.json")
    names = (beside.base, *beside.adapters, beside.tuned)
    write_cross_evaluation(folder / "lora_cross_evaluation.json", names)
    lora().save(folder / "lora.json")
    patching().save(folder / "patching.json")
    restoration(ORDER[0], ORDER[-1]).save(folder / "restoration.json")
    write_rest(folder)
