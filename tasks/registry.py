"""The tasks by name. A task's module is imported when the task is loaded, not before."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from tasks.errors import CircuitsError

if TYPE_CHECKING:
    from tasks.task import Task


class _Entry(NamedTuple):
    module: str
    cls: str
    description: str


_TASKS = {
    "agreement": _Entry(
        "tasks.builtin.agreement", "Agreement", "the keys near the cabinet are: subject and verb"
    ),
    "capitals": _Entry("tasks.builtin.capitals", "Capitals", "the capital of France is Paris"),
    "comparison": _Entry(
        "tasks.builtin.comparison",
        "Comparison",
        "who has won more titles, Ronaldo or Messi, and others",
    ),
    "docstring": _Entry(
        "tasks.builtin.docstring", "Docstring", "the next argument in a Python docstring"
    ),
    "greater-than": _Entry(
        "tasks.builtin.greater_than",
        "GreaterThan",
        "a war from 1732 ends later (Hanna et al. 2023)",
    ),
    "hypernymy": _Entry(
        "tasks.builtin.hypernymy", "Hypernymy", "apples, pears and other fruits: things and kinds"
    ),
    "huggingface": _Entry(
        "tasks.builtin.huggingface.task",
        "HuggingFace",
        "columns of any data set, of the hub or of a file, with corruptions made here",
    ),
    "induction": _Entry(
        "tasks.builtin.induction", "Induction", "a word is followed by what followed it before"
    ),
    "ioi": _Entry("tasks.builtin.ioi", "IOI", "indirect object identification (Wang et al. 2022)"),
    "mib-arc": _Entry(
        "tasks.builtin.mib.choices", "MIBARC", "MIB's ARC, easy or challenge, from a copy of it"
    ),
    "mib-arithmetic": _Entry(
        "tasks.builtin.mib.arithmetic",
        "MIBArithmetic",
        "MIB's two-digit addition or subtraction, from a copy of it",
    ),
    "mib-ioi": _Entry(
        "tasks.builtin.mib.ioi", "MIBIOI", "MIB's indirect objects, from a copy of its data set"
    ),
    "mib-mcqa": _Entry(
        "tasks.builtin.mib.choices", "MIBMCQA", "MIB's coloured objects, from a copy of it"
    ),
    "name-copying": _Entry(
        "tasks.builtin.name_copying",
        "NameCopying",
        "the surname of a person named before: Michelle Jones",
    ),
    "newsroom": _Entry(
        "tasks.builtin.newsroom", "Newsroom", "synthetic news articles for the embedded model"
    ),
    "pronoun": _Entry("tasks.builtin.pronoun", "Pronoun", "so Mary is a good cook, isn't she"),
    "summarization": _Entry(
        "tasks.builtin.summarization",
        "Summarization",
        "articles and their summaries, from a file or a `datasets` name",
    ),
    "table": _Entry("tasks.table", "Table", "your own prompt pairs, from a CSV or JSONL file"),
    "transitive": _Entry(
        "tasks.builtin.transitive", "Transitive", "a is b, b is c: a is c; nouns drawn at random"
    ),
}


def names() -> tuple[str, ...]:
    """The names of the known tasks."""
    return tuple(sorted(_TASKS))


def describe(name: str) -> str:
    """One line on a task, for a listing.

    Args:
        name: one of `names()`.

    Returns:
        What the task asks, without a full stop.

    Raises:
        CircuitsError: for an unknown name.
    """
    return _entry(name).description


def options(name: str) -> dict[str, object]:
    """What `load(name, ...)` accepts.

    Args:
        name: one of `names()`.

    Returns:
        Option name -> default; `inspect.Parameter.empty` for an option that must be given.

    Raises:
        CircuitsError: for an unknown name.
    """
    return {key: value.default for key, value in _signature(name).items()}


def option_types(name: str) -> dict[str, tuple[str, ...]]:
    """The types of each option as its class names them.

    Args:
        name: one of `names()`.

    Returns:
        Option name -> type names, such as ("int", "None").
    """
    return {key: _type_names(value.annotation) for key, value in _signature(name).items()}


def _type_names(annotation: object) -> tuple[str, ...]:
    """Of an annotation as it is written, or as the type itself where it was made one."""
    if isinstance(annotation, type):
        return (annotation.__name__,)
    return tuple(str(annotation).split(" | "))


def meanings(name: str) -> dict[str, str]:
    """What the options of a task mean, as its class says it.

    Args:
        name: one of `names()`.

    Returns:
        Option name -> a sentence.

    Raises:
        CircuitsError: for an unknown name.
    """
    texts: dict[str, str] = {}
    task_class = _class(_entry(name))
    assert isinstance(task_class, type)
    for base in inspect.getmro(task_class):
        text = inspect.cleandoc(vars(base).get("__doc__") or "")
        for match in re.finditer(r"^(\w+(?:, \w+)*): (.*(?:\n    .*)*)", text, re.MULTILINE):
            for option in match[1].split(", "):
                texts.setdefault(option, " ".join(match[2].split()))
    return {option: texts[option] for option in options(name)}


def _signature(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(_class(_entry(name))).parameters


def _class(entry: _Entry) -> Callable[..., Task]:
    task_class: Callable[..., Task] = getattr(importlib.import_module(entry.module), entry.cls)
    return task_class


def load(name: str, **given: object) -> Task:
    """Make the task of that name.

    Args:
        name: one of `names()`.
        **given: the task's options, see `options`.

    Returns:
        The task; its `pairs(tokenizer, n)` makes prompt pairs.

    Raises:
        CircuitsError: for an unknown name or option, and where a required option is missing.
    """
    defaults = options(name)
    for option in given:
        if option not in defaults:
            raise CircuitsError(
                f"task {name!r} has no option {option!r}; it takes: {', '.join(defaults) or 'none'}"
            )
    for option, default in defaults.items():
        if default is inspect.Parameter.empty and option not in given:
            raise CircuitsError(f"task {name!r} needs the option {option!r}")
    return _class(_entry(name))(**given)


def _entry(name: str) -> _Entry:
    if name not in _TASKS:
        raise CircuitsError(f"unknown task {name!r}; the known tasks are: {', '.join(names())}")
    return _TASKS[name]
