"""From a recipe's sections to the package's own settings, checked before anything is written."""

from __future__ import annotations

import re
from dataclasses import replace

import tasks
from circuits.attribution import method
from circuits.attribution.method import GradientMethod, Method
from circuits.errors import CircuitsError
from circuits.graph.paired import MIN_EXAMPLES
from circuits.graph.rankings import require_ranking
from circuits.metrics import METRICS
from circuits.models import checkpoint_series
from circuits.models.checkpoints import as_device, load_config, tokenizer_of
from circuits.options.declared import narrowed
from circuits.options.tuning import FinetuneSettings
from circuits.pipeline.recipe import Recipe
from tasks.errors import error_context
from tasks.task import Task, TrainableTask

RESERVED = ("score", "evaluate", "example", "other-examples")
"""Names under `pairs/` that no condition may have."""


def check(recipe: Recipe) -> None:
    """Refuse before anything is written what would be refused an hour later."""
    task_options = recipe.task_options
    task = tasks.load(recipe.task.name, **task_options)
    for corruption in recipe.evaluation.corruptions:
        tasks.load(recipe.task.name, **{**task_options, "corruption": corruption})
    for options in recipe.evaluation.variants.values():
        tasks.load(recipe.task.name, **{**task_options, **options})
    if not isinstance(task, TrainableTask) and (recipe.finetune or recipe.lora):
        raise CircuitsError(
            f"task {recipe.task.name!r} has no training examples; leave out `finetune` and `lora`, "
            "or give `checkpoints`"
        )
    _check_metric(recipe, task)
    if not recipe.single and recipe.pairs.score < MIN_EXAMPLES:
        raise CircuitsError(
            f"pairs.score {recipe.pairs.score}: comparing checkpoints takes at least {MIN_EXAMPLES}"
        )
    circuit = recipe.circuit
    with error_context("circuit"):
        if circuit.ranking != "auto":
            require_ranking(circuit.ranking, circuit.positive_ratio)
        elif circuit.positive_ratio is not None:
            raise CircuitsError("positive_ratio is for ranking mixed, and auto chooses its own")
    _check_conditions(recipe)
    _check_patching(recipe)
    finetune_settings(recipe)
    _check_lora(recipe)
    as_device(recipe.device)
    _check_model(recipe)


def _check_metric(recipe: Recipe, task: Task) -> None:
    """The metric that edges are scored by; conditions are read by their own."""
    name = recipe.attribution.metric or task.metric
    if name not in METRICS:
        raise CircuitsError(f"attribution.metric {name!r}: known are {', '.join(METRICS)}")
    if METRICS[name].needs_wrong and not METRICS[task.metric].needs_wrong:
        raise CircuitsError(
            f"attribution.metric {name!r}: it needs wrong answers, and task {recipe.task.name!r} "
            f"has none with these options; use {task.metric}"
        )
    attribution = attribution_of(recipe)
    if not METRICS[name].differentiable and isinstance(attribution, GradientMethod):
        raise CircuitsError(
            f"attribution.metric {name!r}: it has no gradient, which {attribution.name} scores by; "
            f"use {task.metric}"
        )


def _check_patching(recipe: Recipe) -> None:
    section = recipe.patching
    if section is None:
        return
    if section.pairs > recipe.pairs.evaluate:
        raise CircuitsError(
            f"patching.pairs {section.pairs}: there are {recipe.pairs.evaluate} pairs to take them "
            "from (pairs.evaluate)"
        )


def _check_lora(recipe: Recipe) -> None:
    section, settings = recipe.lora, lora_settings(recipe)
    if section is None or settings is None:
        return
    if not section.seeds:
        raise CircuitsError("lora.seeds: at least 1 is needed")
    if len(set(section.seeds)) != len(section.seeds):
        raise CircuitsError(f"lora.seeds {list(section.seeds)}: no two alike")
    if section.circuits > len(section.seeds):
        raise CircuitsError(
            f"lora.circuits {section.circuits}: there are {len(section.seeds)} seeds (lora.seeds)"
        )
    with error_context("lora.seeds"):
        for seed in section.seeds:
            replace(settings, seed=seed)


def _check_model(recipe: Recipe) -> None:
    """What the base model's configuration and the names of its checkpoints tell."""
    if recipe.checkpoints is not None:
        checkpoint_series(recipe.model, recipe.checkpoints)
    config = load_config(recipe.model).get_text_config()
    if config.is_encoder_decoder and (recipe.finetune or recipe.lora):
        raise CircuitsError(
            f"{recipe.model}: an encoder-decoder, and only causal models are trained; give "
            "`checkpoints` in place of `finetune`, and leave out `lora`"
        )
    if config.is_encoder_decoder and recipe.patching:
        raise CircuitsError(
            f"{recipe.model}: an encoder-decoder, and activation patching is for decoder-only "
            "models; leave out `patching`"
        )
    layers = config.num_hidden_layers
    if recipe.lora and (recipe.lora.layers or 1) > layers:
        raise CircuitsError(f"lora.layers {recipe.lora.layers}: {recipe.model} has {layers}")
    try:
        tokenizer_of(recipe.tokenizer or recipe.model)
    except CircuitsError as error:
        raise CircuitsError(f"{error}; name another one with --tokenizer (tokenizer:)") from error


def _check_conditions(recipe: Recipe) -> None:
    """Each condition is a pair set of its own, kept in a file of its name."""
    evaluation = recipe.evaluation
    used_names = set(RESERVED)
    for section, names in (
        ("corruptions", evaluation.corruptions),
        ("variants", evaluation.variants),
        ("perturbations", evaluation.perturbations),
    ):
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
                raise CircuitsError(
                    f"evaluation.{section} {name!r}: a name of letters, digits, '-', '_' and '.'"
                )
            if name in used_names:
                raise CircuitsError(
                    f"evaluation.{section} {name!r}: a pair set of this name is there already; "
                    + ("choose another" if section == "variants" else "name it once")
                )
            used_names.add(name)


def attribution_of(recipe: Recipe) -> Method:
    """The attribution method that the recipe asks for."""
    section = recipe.attribution
    return method(section.method, **section.settings)


def finetune_settings(recipe: Recipe) -> FinetuneSettings | None:
    """How the recipe fine-tunes, if it does."""
    if recipe.finetune is None:
        return None
    return narrowed(recipe.finetune, FinetuneSettings, seed=recipe.seed)


def lora_settings(recipe: Recipe) -> FinetuneSettings | None:
    """How the recipe trains its LoRAs, if it does; each seed replaces the one here."""
    if recipe.lora is None:
        return None
    return narrowed(recipe.lora, FinetuneSettings)
