"""The run folder as the report reads it. What is not there is a line on the page."""

from __future__ import annotations

from functools import cached_property

import yaml

from circuits.errors import CircuitsError
from circuits.report.nouns import ARTICLES, PROMPTS, TaskNouns
from circuits.runs import MissingResultError, RunFolder

UNSHOWABLE = (
    MissingResultError,
    CircuitsError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
)
"""What reading a file that is missing, broken or of another shape may raise."""


def reason(error: Exception) -> str:
    """Why something cannot be shown, in a line."""
    if isinstance(error, MissingResultError | CircuitsError):
        return str(error)
    what = f"{type(error).__name__}: {error}"
    return f"This part could not be made; a file of the run is not as expected ({what})."


class Run(RunFolder):
    """A run folder, with what the page says of it."""

    def unasked(self, question: str) -> MissingResultError:
        """Why the evaluation does not answer a question."""
        by_recipe = (self.folder / "recipe.yaml").is_file()
        how = "the recipe leaves it out" if by_recipe else f"it was made without --{question}"
        return MissingResultError(f"evaluation.json holds no {question}: {how}.")

    @cached_property
    def words(self) -> TaskNouns:
        """What to call examples: articles only if the one laid open has sentences that say so."""
        try:
            self.part("pairs/example.json", "sentences")
        except UNSHOWABLE:
            return PROMPTS
        return ARTICLES

    @cached_property
    def unasked_sections(self) -> frozenset[str]:
        """Anchors of sections that a recipe leaves out; the page says nothing of them."""
        unasked = set() if (self.folder / "patching.json").is_file() else {"patching"}
        try:
            recipe = yaml.safe_load(self.recipe)
            if recipe.get("patching"):
                unasked.clear()
            if recipe["finetune"] is None and recipe["checkpoints"] is None:
                unasked |= {"fine-tuning", "comparison", "lora"}
        except (*UNSHOWABLE, yaml.YAMLError):
            pass  # no recipe, or one that does not say
        return frozenset(unasked)
