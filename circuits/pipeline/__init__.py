"""Everything from one recipe, resumable."""

from circuits.pipeline.recipe import Recipe, load_recipe, shipped
from circuits.pipeline.stages import run

__all__ = ["Recipe", "load_recipe", "run", "shipped"]
