"""What a shell offers when a value is half typed: the words of an option, tasks, models, recipes.

Nothing here imports torch: a shell asks while somebody waits.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

import circuits

_MODELS = ("newsroom-gpt2", "smollm2-135m", "gemma3-270m")


def offering(list_words: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """What Typer asks for the words that go on from what is typed so far."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in list_words() if word.startswith(incomplete)]

    return complete


def completed(parameter: inspect.Parameter) -> inspect.Parameter:
    """A verb's parameter for which a shell offers what can be known before it is given."""
    if get_origin(parameter.annotation) is not Annotated:
        return parameter
    kind, *notes = get_args(parameter.annotation)
    info = next((note for note in notes if isinstance(note, ArgumentInfo | OptionInfo)), None)
    words = _BY_NAME.get(parameter.name)
    if info is not None and info.metavar and "|" in info.metavar:
        fixed = [word for word in info.metavar.removesuffix(",...").split("|") if word != "int"]
        words = fixed.copy
    if info is None or words is None:
        return parameter
    completing = copy.copy(info)
    completing.autocompletion = offering(words)
    return parameter.replace(annotation=Annotated[kind, completing])


def _tasks() -> Iterable[str]:
    from tasks.registry import names

    return names()


def _models() -> Iterable[str]:
    return _MODELS


def recipes() -> list[str]:
    """Names of the recipes in the package."""
    folder = Path(circuits.__file__).parent / "pipeline" / "recipes"
    return sorted(file.stem for file in folder.glob("*.yaml"))


_BY_NAME: dict[str, Callable[[], Iterable[str]]] = {
    "task": _tasks,
    "name": _tasks,  # of `circuits tasks NAME`
    "model": _models,
    "base": _models,
    "recipe": recipes,
}
