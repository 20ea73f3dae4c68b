"""A recipe: everything that a run depends on, in one YAML file.

Unknown keys and impossible values are refused with the file's name and the key. Defaults are
filled in, and the recipe as resolved is written into the run folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from circuits.errors import CircuitsError
from circuits.intervention.patching.spec import Alignment, Direction, SiteName

Share = Annotated[float, Field(gt=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskSection(_Section):
    """The task, and what it is loaded with."""

    name: str
    options: dict[str, Any] = {}


class FinetuneSection(_Section):
    """How the checkpoints are made. examples, validation: numbers of articles."""

    examples: int = Field(gt=0)
    validation: int = Field(100, gt=0)
    steps: int = Field(gt=0)
    checkpoint_steps: tuple[int, ...] = ()
    learning_rate: float = Field(gt=0)
    warmup_steps: int = 10
    batch_size: int = Field(32, gt=0)
    weight_decay: float = 0.01
    validate_every: int = Field(50, gt=0)
    patience: int | None = None
    save_state_every: int = Field(50, gt=0)


class PairsSection(_Section):
    """Numbers of pairs: to score edges and diff models on (validation), to evaluate on (test)."""

    score: int = Field(64, gt=0)
    evaluate: int = Field(100, gt=0)


class AttributionSection(_Section):
    """How edges are scored. metric: None takes the task's own.

    require_accuracy: stop before the scoring where the last checkpoint's accuracy on the clean
    prompts is lower.
    """

    method: str = "eap-ig"
    steps: int | None = 5
    quadrature: str | None = "midpoint"
    metric: str | None = None
    batch_size: int | None = Field(None, gt=0)
    require_accuracy: float | None = Field(None, ge=0, le=1)


class CircuitSection(_Section):
    """How a circuit is chosen. share: of all edges, before pruning. positive: for mixed ranking.

    ranking: absolute, signed, mixed, or auto: the one whose circuits are most faithful on `choose`
    more pairs (validation), absolute where the task has none.
    """

    fraction: float = Field(0.1, gt=0, le=1)
    strategy: str = "widest-path"
    ranking: str = "auto"
    positive_ratio: float | None = Field(None, ge=0, le=1)
    choose: int = Field(16, gt=1)


class MinimalitySection(_Section):
    """Each edge removed alone, a run an edge.

    n_pairs: of those for evaluation, the first. n_controls: random edges added, each alone.
    epsilon: a change of f below it counts as none.
    """

    n_pairs: int = Field(32, gt=0)
    n_controls: int = Field(50, ge=0)
    epsilon: float = Field(0.005, gt=0)


class CompletenessSection(_Section):
    """Sets of nodes knocked out.

    n_pairs: of those for evaluation, the first. n_sets: random sets.
    """

    n_pairs: int = Field(32, gt=1)
    n_sets: int = Field(10, gt=0)


class StabilitySection(_Section):
    """The circuit selected again. n_resamples: draws of the scored examples."""

    n_resamples: int = Field(200, gt=1)


class QualitySection(_Section):
    """ROUGE and loss of every checkpoint. n_examples: held-out articles."""

    n_examples: int = Field(100, gt=0)


class EvaluationSection(_Section):
    """What is asked of each circuit.

    For robustness: corruptions of the task; variants, other options of it by name (a template);
    perturbations of the evaluation pairs (typos, longer, shorter, sentence-order); other_examples,
    a number of pairs.
    No two of these have one name, and none is called score, evaluate, example or other-examples.
    minimality, completeness, stability, quality: null leaves the question out.
    ablation: what stands in for edges left out.
    """

    corruptions: tuple[str, ...] = ()
    variants: dict[str, dict[str, Any]] = {}
    perturbations: tuple[str, ...] = ()
    other_examples: int = Field(50, ge=0)
    ablation: str = "corrupted"
    minimality: MinimalitySection | None = MinimalitySection()
    completeness: CompletenessSection | None = CompletenessSection()
    stability: StabilitySection | None = StabilitySection()
    quality: QualitySection | None = QualitySection()
    batch_size: int | None = Field(None, gt=0)


class ComparisonSection(_Section):
    """Comparison of checkpoints. sizes: circuit sizes as shares of all edges.

    cross_evaluation: pairs on which every checkpoint's circuit is run on every checkpoint; null for
        none.
    """

    sizes: tuple[Share, ...] = Field((0.02, 0.05, 0.1, 0.2), min_length=1)
    n_resamples: int = Field(1000, gt=0)
    cross_evaluation: int | None = Field(100, gt=0)


class ModelDiffSection(_Section):
    """Attention and hidden states of the base and the last checkpoint.

    documents: clean prompts, of the pairs that edges are scored on.
    """

    documents: int = Field(64, gt=1)
    batch_size: int = Field(8, gt=0)


class PatchingSection(_Section):
    """Exact activation patching of the last checkpoint.

    pairs: of those for evaluation, the first. site, direction, align: as for `circuits patch`.
    """

    pairs: int = Field(16, gt=0)
    site: SiteName = "resid_pre"
    direction: Direction = "denoise"
    align: Alignment = "start"
    batch_size: int | None = Field(None, gt=0)


class LoraSection(_Section):
    """The comparison of LoRA targets.

    layers: how many the conditions other than the standard one adapt. rank: of the standard
    condition, on all layers; the others take the rank that gives as many parameters.
    criterion: what the targeted condition chooses its layers by: edges, those of the last
    checkpoint's circuit; or attention-kl, entropy or hidden-state, which need `model_diff`. The
    circuit then has a condition of its own.
    """

    layers: int = Field(gt=0)
    rank: int = Field(8, gt=0)
    steps: int = Field(gt=0)
    examples: int = Field(gt=0)
    held_out: int = Field(100, gt=0)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = 10
    batch_size: int = Field(32, gt=0)
    seeds: tuple[int, ...] = Field((0, 1), min_length=1)
    criterion: Literal["edges", "attention-kl", "entropy", "hidden-state"] = "edges"


class Recipe(_Section):
    """A whole run.

    model: the base. finetune: how its checkpoints are made, or checkpoints: a folder of `step-N`
    folders that exist already. With neither, the run is about the one model, and what compares
    checkpoints is left out.
    tokenizer: where another one than the model's own is taken from, as `model`.
    """

    name: str
    model: str
    tokenizer: str | None = None
    task: TaskSection
    seed: int = Field(0, ge=0)
    device: str | None = None
    dtype: str = "float32"
    finetune: FinetuneSection | None = None
    checkpoints: str | None = None
    pairs: PairsSection = PairsSection()
    attribution: AttributionSection = AttributionSection()
    circuit: CircuitSection = CircuitSection()
    evaluation: EvaluationSection = EvaluationSection()
    patching: PatchingSection | None = None
    comparison: ComparisonSection = ComparisonSection()
    model_diff: ModelDiffSection | None = ModelDiffSection()
    lora: LoraSection | None = None

    @field_validator("name")
    @classmethod
    def _is_folder_name(cls, name: str) -> str:
        if not name or any(character in name for character in "/\\ "):
            raise ValueError("a name without spaces and slashes; it names the run's folder")
        return name

    @model_validator(mode="after")
    def _has_one_origin_of_checkpoints(self) -> Recipe:
        if self.finetune is not None and self.checkpoints is not None:
            raise ValueError("give `finetune` or `checkpoints`, not both")
        if self.single and self.lora is not None:
            raise ValueError(
                "`lora` needs `finetune` or `checkpoints`: it follows what they change"
            )
        if self.lora is not None and self.lora.criterion != "edges" and self.model_diff is None:
            raise ValueError(
                f"`lora.criterion` {self.lora.criterion!r} needs `model_diff`, which measures it; "
                "choose edges, or do not leave `model_diff` out"
            )
        return self

    @property
    def single(self) -> bool:
        """Whether the run is about one model, without checkpoints of it."""
        return self.finetune is None and self.checkpoints is None

    def to_yaml(self) -> str:
        """The recipe as resolved."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def shipped() -> tuple[str, ...]:
    """Names of the recipes in the package."""
    files = resources.files("circuits.pipeline").joinpath("recipes").iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files))


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by name, or a YAML file by path.

    overrides: "lora.steps=20", dotted keys with YAML values, applied before validation.
    """
    text, place = _read(name)
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CircuitsError(f"{place}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise CircuitsError(f"{place}: not a recipe; expected keys such as name, model and task")
    for override in overrides:
        _override(values, override)
    return parse(values, place)


def parse(values: Mapping[str, Any], place: str) -> Recipe:
    """A recipe from plain values; errors begin with `place`."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise CircuitsError(f"{place}: {key + ': ' if key else ''}{what}") from error


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


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise CircuitsError(f"--set {override!r}: write key=value, as in lora.steps=20")
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(values.get(parent), dict):
            values[parent] = {}
        values = values[parent]
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CircuitsError(f"--set {override!r}: the value is not YAML") from error
