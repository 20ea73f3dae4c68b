"""Result files by the kind that they name: what each is in words, and what is worth telling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from circuits.comparison import CrossEvaluation, CrossTasks, Evolution
from circuits.evaluation import EnsembleWeights, Evaluation, MIBEvaluation
from circuits.export import AblatedModel
from circuits.format import count, counted, duration
from circuits.graph import Circuit, EdgeScores, NodeCircuit, NodeScores, Provenance
from circuits.graph.circuit import CircuitFile
from circuits.graph.node_circuit import NodeCircuitFile
from circuits.graph.provenance import ModelRecord
from circuits.graph.score_files import EdgeScoresFile, NodeScoresFile
from circuits.intervention.patching import Patching
from circuits.masks import MaskRecord
from circuits.model_diff import ModelDiffs
from circuits.model_diff.restored import Restoration
from circuits.runs.records import Environment, ExampleFile
from circuits.runtime.display import Displayed
from circuits.runtime.result_file import ResultFile
from circuits.search import HeadPruning, Search
from circuits.search.result import StoppedSearch
from circuits.tuning.adapter_circuits import AdapterCircuits
from circuits.tuning.lora_result import BaseResult, LoraComparison, RunResult, TrialResult
from circuits.tuning.training_log import TrainingLog


@dataclass(frozen=True)
class Kind:
    """A kind of result file.

    what: it is, in words. file: the class whose JSON it is. load: reads what it stands for.
    """

    what: str
    file: type[ResultFile]
    load: Callable[[Path], object]


def _beside(load: Callable[[Path], object]) -> Callable[[Path], object]:
    """Scores are read by their tensors' name; the record stands beside them."""
    return lambda path: load(path.with_suffix(".safetensors"))


def _plain(what: str, file: type[ResultFile]) -> Kind:
    return Kind(what, file, file.load)


_KINDS = (
    Kind("scores of every edge", EdgeScoresFile, _beside(EdgeScores.load)),
    Kind("scores of nodes or neurons", NodeScoresFile, _beside(NodeScores.load)),
    Kind("a circuit of edges", CircuitFile, Circuit.load),
    Kind("a circuit of nodes or neurons", NodeCircuitFile, NodeCircuit.load),
    _plain("an evaluation of circuits", Evaluation),
    _plain("an evaluation by MIB's own counting", MIBEvaluation),
    _plain("the weights of an ensemble of scores", EnsembleWeights),
    _plain("an exact activation patching sweep", Patching),
    _plain("a comparison of checkpoints", Evolution),
    _plain("every checkpoint's circuit in every checkpoint", CrossEvaluation),
    _plain("one model's circuits on the pairs of several tasks", CrossTasks),
    _plain("what changed inside of models", ModelDiffs),
    _plain("neurons that got the base's activations", Restoration),
    _plain("a comparison of LoRAs", LoraComparison),
    _plain("LoRAs' circuits beside a fully fine-tuned model's", AdapterCircuits),
    _plain("the base model in a comparison of LoRAs", BaseResult),
    _plain("one run of a comparison of LoRAs", RunResult),
    _plain("a learning rate tried in a comparison of LoRAs", TrialResult),
    _plain("the log of a fine-tuning", TrainingLog),
    _plain("an ACDC search", Search),
    _plain("an ACDC search that was stopped; the same command goes on", StoppedSearch),
    _plain("a head pruning", HeadPruning),
    _plain("the course of learning a mask", MaskRecord),
    _plain("a model on a circuit, as Hugging Face keeps models", AblatedModel),
    _plain("one prompt pair of a run, as text", ExampleFile),
    _plain("the machine and the versions of a run", Environment),
)
KINDS = {kind.file.KIND: kind for kind in _KINDS}


def facts_of(result: object) -> dict[str, str]:
    """What is worth telling of a result, a few words each, by name."""
    if isinstance(result, Displayed):
        return {name: value for name, value in result.facts.items() if name != "model"}
    for kind, describe in _TOLD.items():
        if isinstance(result, kind):
            return describe(result)
    return {}


def model_of(result: object) -> str | None:
    """The model that a result is about, where it says so."""
    if isinstance(result, ModelDiffs):
        return ", ".join(result.models)
    if isinstance(result, AblatedModel):
        model: ModelRecord | None = result.model
    else:
        model = getattr(getattr(result, "provenance", None), "model", None)
    return None if model is None else f"{model.name} ({model.architecture}, {model.precision})"


def task_of(result: object) -> str | None:
    """The task that a result is about, where it says so."""
    if isinstance(result, ModelDiffs):
        return f"{result.task}, {result.split}"
    origin = (
        result.circuit if isinstance(result, AblatedModel) else getattr(result, "provenance", None)
    )
    data = origin.data if isinstance(origin, Provenance) else getattr(result, "data", None)
    if data is not None:
        return f"{data.task}, {data.split}, {counted(data.n, 'pair')}"
    task: str | None = getattr(origin, "task", None) if not isinstance(origin, Provenance) else None
    return task


def _search(search: Search) -> dict[str, str]:
    return {
        "circuit": f"{counted(len(search.edges), 'edge')} of {count(search.layout.n_edges)}",
        "trials": count(len(search.history)),
        "metric": f"{search.metric_circuit:.4g} (whole model {search.metric_model:.4g})",
    }


def _environment(environment: Environment) -> dict[str, str]:
    versions = environment.versions
    return {
        "versions": f"circuits {versions.circuits}, torch {versions.torch}, "
        f"transformers {versions.transformers}",
        "device": environment.device,
        "took": f"{duration(sum(environment.seconds.values()))} in "
        f"{len(environment.seconds)} stages",
    }


def _training(log: TrainingLog) -> dict[str, str]:
    last = f", loss {log.steps[-1].loss:.4g} at the last" if log.steps else ""
    return {
        "steps": f"{len(log.steps)}{last}",
        "state": "finished" if log.finished else "not finished; the same command goes on",
    }


_TOLD: dict[type, Callable[..., dict[str, str]]] = {
    Search: _search,
    StoppedSearch: lambda search: {"trials": f"{count(len(search.history))} so far"},
    HeadPruning: lambda pruning: {
        "heads": f"{len(pruning.heads)} kept of {len(pruning.history)} tried",
        "metric": f"{pruning.metric_pruned:.4g} (whole model {pruning.metric_model:.4g})",
    },
    MaskRecord: lambda record: {
        "gates": f"{count(record.config.size)} {record.level}s to stay of {record.start.method}'s",
        "loss": f"{record.losses[0]:.4g} in the first epoch, {record.losses[-1]:.4g} in the last",
    },
    EnsembleWeights: lambda ensemble: {
        "members": ", ".join(
            f"{name} {weight:.2f}"
            for name, weight in zip(ensemble.members, ensemble.weights, strict=True)
        ),
        "chosen on": f"{counted(ensemble.n, 'pair')} ({ensemble.split}), "
        f"for circuits of {count(ensemble.size)}",
    },
    Environment: _environment,
    AblatedModel: lambda exported: {
        "kept": f"{count(exported.kept)} of {count(exported.of)} {exported.level}s, "
        f"{exported.ablation} for the others",
        "checked": f"logits within {exported.difference:.1e} of the executor's",
    },
    TrainingLog: _training,
    ExampleFile: lambda example: {"title": example.title, "answer": example.answer},
    RunResult: lambda result: {"condition": f"{result.run.condition}, seed {result.run.seed}"},
    ModelDiffs: lambda diffs: {
        "compared": "; ".join(f"{diff.model} with {diff.base}" for diff in diffs.comparisons)
    },
}
