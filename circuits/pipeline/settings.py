"""From a recipe's sections to the package's own settings, checked before anything is written."""

from __future__ import annotations

import re

import tasks
from circuits.attribution import method
from circuits.attribution.attribute import Method
from circuits.errors import CircuitsError
from circuits.evaluation import PERTURBATIONS
from circuits.evolution.criteria import CRITERIA
from circuits.graph.orders import ORDERS
from circuits.intervention.replacement import REPLACEMENTS
from circuits.pipeline.recipe import Recipe
from circuits.tuning.settings import FinetuneSettings
from tasks.task import TrainableTask

RESERVED = ("score", "evaluate", "example", "other-examples")
"""Names under `pairs/` that no condition may have."""


def check(recipe: Recipe) -> None:
    """Refuse before anything is written what would be refused an hour later."""
    task = tasks.load(recipe.task.name, **recipe.task.options)
    for corruption in recipe.evaluation.corruptions:
        tasks.load(recipe.task.name, **{**recipe.task.options, "corruption": corruption})
    for options in recipe.evaluation.variants.values():
        tasks.load(recipe.task.name, **{**recipe.task.options, **options})
    if not isinstance(task, TrainableTask) and (recipe.finetune or recipe.lora):
        raise CircuitsError(
            f"task {recipe.task.name!r} has no training examples; give `checkpoints` in place of "
            "`finetune`, and leave out `lora`"
        )
    attribution_of(recipe)
    if recipe.circuit.rule not in ORDERS:
        raise CircuitsError(f"circuit.rule {recipe.circuit.rule!r}: known are {', '.join(ORDERS)}")
    if recipe.evaluation.replacement not in REPLACEMENTS:
        raise CircuitsError(
            f"evaluation.replacement {recipe.evaluation.replacement!r}: known are "
            f"{', '.join(REPLACEMENTS)}"
        )
    if unknown := sorted(set(recipe.evaluation.perturbations) - set(PERTURBATIONS)):
        raise CircuitsError(
            f"evaluation.perturbations {unknown[0]!r}: known are {', '.join(PERTURBATIONS)}"
        )
    _check_conditions(recipe)
    finetune_settings(recipe)
    lora_settings(recipe)
    if recipe.lora and recipe.lora.criterion not in CRITERIA:
        raise CircuitsError(
            f"lora.criterion {recipe.lora.criterion!r}: known are {', '.join(CRITERIA)}"
        )


def _check_conditions(recipe: Recipe) -> None:
    """Each condition is a pair set of its own, kept in a file of its name."""
    asked = recipe.evaluation
    taken = set(RESERVED)
    for section, names in (
        ("corruptions", asked.corruptions),
        ("variants", asked.variants),
        ("perturbations", asked.perturbations),
    ):
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
                raise CircuitsError(
                    f"evaluation.{section} {name!r}: a name of letters, digits, '-', '_' and '.'"
                )
            if name in taken:
                raise CircuitsError(
                    f"evaluation.{section} {name!r}: a pair set of this name is there already; "
                    + ("choose another" if section == "variants" else "name it once")
                )
            taken.add(name)


def attribution_of(recipe: Recipe) -> Method:
    """The attribution method that the recipe asks for."""
    section = recipe.attribution
    return method(section.method, steps=section.steps, quadrature=section.quadrature)


def finetune_settings(recipe: Recipe) -> FinetuneSettings | None:
    """How the recipe fine-tunes, if it does."""
    if recipe.finetune is None:
        return None
    given = recipe.finetune.model_dump(exclude={"examples", "validation"})
    return FinetuneSettings(seed=recipe.seed, **given)


def lora_settings(recipe: Recipe) -> FinetuneSettings | None:
    """How the recipe trains its LoRAs, if it does; each seed replaces the one here."""
    if recipe.lora is None:
        return None
    shared = {"steps", "learning_rate", "warmup_steps", "batch_size"}
    return FinetuneSettings(**recipe.lora.model_dump(include=shared))
