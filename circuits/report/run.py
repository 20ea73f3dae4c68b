"""The run folder as the report reads it. What is not there is a line on the page."""

from __future__ import annotations

from functools import cached_property

import yaml

from circuits.errors import CircuitsError
from circuits.report.nouns import ARTICLES, PROMPTS, TaskNouns
from circuits.runs import MissingResultError, RunFolder


class Run(RunFolder):
    """A run folder, with what the page says of it."""

    def not_measured(self, question: str) -> MissingResultError:
        """Why the evaluation does not answer a question."""
        by_recipe = (self.folder / "recipe.yaml").is_file()
        reason = "the recipe leaves it out" if by_recipe else f"it was made without --{question}"
        return MissingResultError(f"evaluation.json holds no {question}: {reason}.")

    @cached_property
    def nouns(self) -> TaskNouns:
        """What to call examples: articles only if the one laid open has sentences that say so."""
        try:
            return ARTICLES if self.example.sentences else PROMPTS
        except MissingResultError:
            return PROMPTS

    @cached_property
    def omitted_sections(self) -> frozenset[str]:
        """Anchors of sections that a recipe leaves out; the page says nothing of them."""
        omitted = set() if (self.folder / "patching.json").is_file() else {"patching"}
        settings = self.settings
        if settings.get("patching"):
            omitted.clear()
        if all(settings.get(name, "unsaid") is None for name in ("finetune", "checkpoints")):
            omitted |= {"fine-tuning", "comparison", "lora"}
        return frozenset(omitted)

    @cached_property
    def settings(self) -> dict[str, object]:
        """The recipe's settings; empty where there is no recipe."""
        try:
            text = self.recipe
        except MissingResultError:
            return {}
        try:
            recipe = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise CircuitsError(
                f"{self.folder / 'recipe.yaml'}: not YAML; run the recipe again"
            ) from error
        if not isinstance(recipe, dict):
            raise CircuitsError(
                f"{self.folder / 'recipe.yaml'}: not a recipe; run the recipe again"
            )
        return recipe
