"""A recipe: everything that a run depends on, in one YAML file.

Unknown keys and impossible values are refused with the file's name and the key. Defaults are
filled in, and the recipe as resolved is written into the run folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, get_args

import yaml

from circuits.errors import CircuitsError
from circuits.options.attribution import AttributionOptions, MetricOptions
from circuits.options.choices import Count, LayerCriterion, Positive, ScoredPairs
from circuits.options.circuit import CircuitOptions
from circuits.options.comparison import ComparisonOptions
from circuits.options.declared import Options, Sensible, Within, options_from
from circuits.options.engine import RayEngine
from circuits.options.evaluation import EvalConfig, PerturbationOptions
from circuits.options.model import ModelOptions
from circuits.options.patching import PatchSpec
from circuits.options.restoration import RestorationConfig
from circuits.options.run import BatchOptions, RecomputeOptions
from circuits.options.tuning import FinetuneOptions, LoraComparisonOptions

AtLeastTwo = Annotated[int, Within(at_least=2)]


@dataclass(frozen=True, kw_only=True)
class TaskSection(Options):
    """The task, and what it is loaded with.

    Attributes:
        name: Task name.
        options: Its options by name.
    """

    name: str
    options: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PairsSection(Options):
    """Numbers of pairs.

    Attributes:
        score: Pairs to score edges and to diff models on (validation).
        evaluate: Pairs to evaluate on (test).
    """

    score: ScoredPairs = 64
    evaluate: Annotated[
        Positive, Sensible(32, math.inf, "real-models.md#what-a-good-guess-gets-wrong")
    ] = 100


@dataclass(frozen=True, kw_only=True)
class AttributionSection(AttributionOptions, MetricOptions, BatchOptions, RecomputeOptions):
    """How edges are scored; the accuracy required is the last checkpoint's."""


@dataclass(frozen=True, kw_only=True)
class QualityConfig(Options):
    """ROUGE and loss of every checkpoint.

    Attributes:
        n_examples: Held-out examples.
    """

    n_examples: Positive = 100


@dataclass(frozen=True, kw_only=True)
class EvaluationSection(EvalConfig, PerturbationOptions, BatchOptions):
    """What is asked of each circuit, and the conditions of robustness.

    No two conditions have one name, and none is called score, evaluate, example or other-examples.

    Attributes:
        metric: Metric (default: that of the attribution, or else each pair set's own).
        corruptions: Other corruptions of the task.
        variants: Other options of the task by name, such as a template.
        other_examples: Pairs of other examples.
        quality: How good what a checkpoint writes is; None leaves the question out.
    """

    corruptions: tuple[str, ...] = ()
    variants: dict[str, dict[str, object]] = field(default_factory=dict)
    other_examples: Count = 50
    quality: QualityConfig | None = None


@dataclass(frozen=True, kw_only=True)
class ModelDiffSection(BatchOptions):
    """Attention and hidden states of the base and the last checkpoint.

    Attributes:
        documents: Clean prompts, of the pairs that edges are scored on.
        restore: Which neurons of the last checkpoint get the base's activations; None leaves that
            out. They are chosen on those prompts and judged on the pairs for evaluation.
    """

    documents: AtLeastTwo = 64
    restore: RestorationConfig | None = None


@dataclass(frozen=True, kw_only=True)
class PatchingSection(PatchSpec, BatchOptions):
    """Exact activation patching of the last checkpoint.

    Attributes:
        pairs: Pairs, the first of those for evaluation.
    """

    pairs: Positive = 16


@dataclass(frozen=True, kw_only=True)
class Recipe(ModelOptions):
    """A whole run; its model is the base.

    With neither `finetune` nor `checkpoints`, the run is about the one model, and what compares
    checkpoints is left out. What is trained has plain float32 weights on one device; `dtype`,
    `quantize` and `device_map` are of the models that are scored, evaluated and compared.

    Attributes:
        name: Of the run, and of its folder: without spaces and slashes.
        task: The task.
        data: The file that the task reads, for tasks that read one (its `path` option).
        seed: Seed of every random choice.
        engine: Workers that batches are handed to; None is this process. It is left out of the
            run's own recipe, as it changes no result.
        finetune: How the checkpoints are made.
        checkpoints: A folder of `step-N` folders that exist already.
        pairs: Numbers of pairs.
        attribution: How edges are scored.
        circuit: How a circuit is chosen.
        evaluation: What is asked of each circuit.
        patching: Exact activation patching; None leaves it out.
        comparison: The comparison of checkpoints.
        model_diff: The comparison inside the models; None leaves it out.
        lora: The comparison of LoRA targets; None leaves it out.
    """

    name: str
    task: TaskSection
    data: str | None = None
    seed: Count = 0
    engine: RayEngine | None = None
    finetune: FinetuneOptions | None = None
    checkpoints: str | None = None
    pairs: PairsSection = PairsSection()
    attribution: AttributionSection = AttributionSection()
    circuit: CircuitOptions = field(default_factory=CircuitOptions)
    evaluation: EvaluationSection = EvaluationSection()
    patching: PatchingSection | None = None
    comparison: ComparisonOptions = field(default_factory=ComparisonOptions)
    model_diff: ModelDiffSection | None = ModelDiffSection()
    lora: LoraComparisonOptions | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name or any(character in self.name for character in "/\\ "):
            raise CircuitsError(
                f"name {self.name!r}: a name without spaces and slashes; it names the run's folder"
            )
        if self.data is not None and self.task.options.get("path") is not None:
            raise CircuitsError("data: `task.options.path` names a file too; give one of the two")
        if self.finetune is not None and self.checkpoints is not None:
            raise CircuitsError("give `finetune` or `checkpoints`, not both")
        if self.lora is None:
            return
        if self.single:
            raise CircuitsError(
                "`lora` needs `finetune` or `checkpoints`: it follows what they change"
            )
        measured_criteria = [
            name for name in self.lora.conditions if name in get_args(LayerCriterion)
        ]
        if measured_criteria and self.model_diff is None:
            raise CircuitsError(
                f"`lora.conditions` {measured_criteria[0]!r} needs `model_diff`, which measures "
                "it; leave that condition out, or do not leave `model_diff` out"
            )

    @property
    def single(self) -> bool:
        """Whether the run is about one model, without checkpoints of it."""
        return self.finetune is None and self.checkpoints is None

    @property
    def task_options(self) -> dict[str, object]:
        """What the task is loaded with."""
        data_option = {} if self.data is None else {"path": self.data}
        return {**self.task.options, **data_option}

    def to_yaml(self) -> str:
        """The recipe as resolved, without its engine."""
        values = plain(self)
        del values["engine"]
        return yaml.safe_dump(values, sort_keys=False)


def plain(section: Options) -> dict[str, object]:
    """A recipe, or a section of it, as JSON and YAML hold it."""
    values: dict[str, object] = json.loads(json.dumps(asdict(section)))
    return values


def shipped() -> tuple[str, ...]:
    """Names of the recipes in the package."""
    files = resources.files("circuits.pipeline").joinpath("recipes").iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files))


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: of a recipe in the package, or the path of a YAML file.
        overrides: dotted keys with YAML values, as in "lora.steps=20".

    Returns:
        The recipe, with defaults filled in.

    Raises:
        CircuitsError: where there is none, or a key or value is wrong; it names the key.
    """
    text, source = _read(name)
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CircuitsError(f"{source}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise CircuitsError(f"{source}: not a recipe; expected keys such as name, model and task")
    for override in overrides:
        _override(values, override)
    return parse(values, source)


def parse(values: Mapping[str, object], source: str) -> Recipe:
    """A recipe from plain values; errors begin with `source`."""
    return options_from(Recipe, values, source)


def _read(name: str | Path) -> tuple[str, str]:
    path = Path(name)
    if str(name) in shipped():
        file = resources.files("circuits.pipeline").joinpath("recipes", f"{name}.yaml")
        return file.read_text(encoding="utf-8"), f"recipe {name}"
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except FileNotFoundError as error:
        raise CircuitsError(
            f"{name}: no such recipe; give a file, or one of: {', '.join(shipped())}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise CircuitsError(f"{name}: cannot be read ({error})") from error


def _override(values: dict[str, object], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise CircuitsError(f"--set {override!r}: write key=value, as in lora.steps=20")
    *parents, last = key.split(".")
    for parent in parents:
        inner = values.get(parent)
        if not isinstance(inner, dict):
            values[parent] = inner = {}
        values = inner
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CircuitsError(f"--set {override!r}: the value is not YAML") from error
