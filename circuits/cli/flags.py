"""Flags from the dataclasses that a verb takes, so that no option is declared twice.

A parameter of a verb whose type is a dataclass of `circuits.options` becomes one flag for each of
its fields: name, type, default and help are the field's. The verb is given the dataclass, checked.
Other parameters stay what they are for Typer.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import GenericAlias, UnionType
from typing import Annotated, Generic, TypeVar, Union, get_args, get_origin

import typer
from typer.models import OptionInfo

from circuits.cli.completion import completed
from circuits.cli.steps import timed
from circuits.errors import CircuitsError
from circuits.options.declared import (
    Options,
    hints,
    literals,
    options_from,
    require_known,
    sentence,
)

T = TypeVar("T", bound=Options)


@dataclass(frozen=True)
class Without:
    """`Annotated[RunOptions, Without("progress")]`: fields that a verb has no flags for."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True)
class Label:
    """`Annotated[Given[AcdcConfig], Label("acdc")]`: what the help of its flags begins with."""

    text: str


@dataclass(frozen=True)
class Given(Generic[T]):
    """Options of which a verb must know the ones that were given: `Given[AcdcConfig]`.

    kind: the dataclass. values: the fields given, by name.
    """

    kind: type[T]
    values: dict[str, object]

    def make(self, **more: object) -> T:
        """The dataclass, from what was given and what the verb adds; the latter wins."""
        return options_from(self.kind, {**self.values, **more})


def with_flags(verb: Callable[..., None], *, tell_time: bool = False) -> Callable[..., None]:
    """The verb as Typer takes it, with a flag for every field of the dataclasses among its
    parameters. A flag that two of them share is given to both.

    tell_time: tell at the end how long it took.
    """
    groups: dict[str, _Group] = {}
    flags: dict[str, inspect.Parameter] = {}
    words: dict[str, tuple[str, ...]] = {}
    for name, parameter in inspect.signature(verb, eval_str=True).parameters.items():
        group = _group(parameter.annotation)
        if group is None:
            words[name] = literals(parameter.annotation)
            flags[name] = _plain(parameter, words[name])
            continue
        groups[name] = group
        for flag in group.flags():
            shared = flags.get(flag.name)
            flags[flag.name] = flag if shared is None else _merged(shared, flag)

    def flat(**values: object) -> None:
        arguments: dict[str, object] = {name: group.build(values) for name, group in groups.items()}
        for name, choices in words.items():
            arguments[name] = values[name]
            if choices and values[name] is not None:
                require_known(f"--{name.replace('_', '-')}", values[name], choices)
        with timed(verb.__name__) if tell_time else nullcontext():
            verb(**arguments)

    wrapped = functools.update_wrapper(flat, verb)
    del wrapped.__wrapped__  # or Typer would look through it
    parameters = [
        completed(flag_parameter).replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for flag_parameter in flags.values()
    ]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {
        flag_parameter.name: flag_parameter.annotation for flag_parameter in parameters
    }
    return wrapped


@dataclass(frozen=True)
class _Group:
    """A parameter that is a dataclass.

    partly: whether the verb takes only what was given. left_out: fields without a flag. label: what
    the help begins with.
    """

    kind: type[Options]
    partly: bool
    left_out: tuple[str, ...]
    label: str

    @property
    def names(self) -> list[str]:
        """Fields that have flags; options within options have none."""
        types = hints(self.kind)
        return [name for name in types if name not in self.left_out and not _is_nested(types[name])]

    def flags(self) -> list[inspect.Parameter]:
        """A parameter for each field, those that must be given first."""
        defaults = {field.name: field.default for field in fields(self.kind)}
        parameters = [_flag(self, name, defaults[name]) for name in self.names]
        return sorted(parameters, key=lambda flag: flag.default is not inspect.Parameter.empty)

    def build(self, values: dict[str, object]) -> Given[Options] | Options:
        types = hints(self.kind)
        field_values = {
            name: _read(name, values[name], types[name])
            for name in self.names
            if values[name] is not None
        }
        return (
            Given(self.kind, field_values) if self.partly else options_from(self.kind, field_values)
        )


def _group(annotation: object) -> _Group | None:
    kind, *notes = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    partly = get_origin(kind) is Given
    kind = get_args(kind)[0] if partly else kind
    if not (isinstance(kind, type) and issubclass(kind, Options)):
        return None
    left_out = next((note.names for note in notes if isinstance(note, Without)), ())
    label = next((f"{note.text}: " for note in notes if isinstance(note, Label)), "")
    return _Group(kind, partly, left_out, label)


def _flag(group: _Group, name: str, default: object) -> inspect.Parameter:
    hint = hints(group.kind)[name]
    kind, metavar = _taken_as(hint)
    required = default is MISSING and not group.partly
    silent = default in (MISSING, None, ()) or default is False
    filled_in_later = group.partly or isinstance(default, tuple)  # Typer sees None as the default
    note = f" [default: {_shown(default)}]" if filled_in_later and not silent else ""
    flag = f"--{name.replace('_', '-')}"
    negatable = kind is bool and default is not False
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if negatable else flag,
        help=group.label + sentence(group.kind, name) + note,
        metavar=metavar,
        show_default=not (silent or filled_in_later),
    )
    if filled_in_later:
        default = None
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else (None if default is MISSING else default),
        annotation=Annotated[kind if required else kind | None, option],
    )


def _plain(parameter: inspect.Parameter, choices: tuple[str, ...]) -> inspect.Parameter:
    """A parameter that Typer gets as it is; of one that takes certain words, a text."""
    if not choices:
        return parameter
    option = copy.copy(next(note for note in get_args(parameter.annotation)[1:]))
    option.metavar = "|".join(choices)
    return parameter.replace(annotation=Annotated[str | None, option])


def _merged(first: inspect.Parameter, second: inspect.Parameter) -> inspect.Parameter:
    """One flag of two dataclasses: both their sentences, and all of their words."""
    option, other = (copy.copy(_option(parameter)) for parameter in (first, second))
    option.help = f"{option.help} {other.help}"
    if option.metavar and other.metavar:
        words = [*option.metavar.split("|"), *other.metavar.split("|")]
        option.metavar = "|".join(dict.fromkeys(words))
    option.show_default = False
    return first.replace(annotation=Annotated[get_args(first.annotation)[0], option])


def _option(flag: inspect.Parameter) -> OptionInfo:
    return next(note for note in get_args(flag.annotation) if isinstance(note, OptionInfo))


def _is_nested(hint: object) -> bool:
    kinds = (hint, *get_args(hint))
    return any(isinstance(kind, type) and is_dataclass(kind) for kind in kinds)


def _taken_as(hint: object) -> tuple[type[object] | GenericAlias, str | None]:
    """The type that Typer reads a field as, and what stands for its value in the help."""
    if get_origin(hint) is Annotated:
        return _taken_as(get_args(hint)[0])
    choices, parts = literals(hint), [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) in (Union, UnionType) and len(parts) == 1:
        return _taken_as(parts[0])
    if get_origin(hint) is tuple:
        return str, f"{'|'.join(choices)},..." if choices else "NUMBER,..."
    if choices:
        return str, "|".join([*(["int"] if int in parts else []), *choices])
    assert isinstance(hint, type | GenericAlias)  # such as list[str]
    return hint, f"<{get_args(hint)[0].__name__}>" if isinstance(hint, GenericAlias) else None


def _shown(default: object) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _read(name: str, value: object, hint: object) -> object:
    """A value as the field takes it: the parts of a text, where the field is a tuple."""
    if get_origin(hint) in (Union, UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is not tuple or not isinstance(value, str):
        return value
    if get_args(hint)[0] is int:
        return _numbers(name, value)
    return tuple(part.strip() for part in value.split(","))


def _numbers(name: str, text: str) -> tuple[int, ...]:
    """The numbers of a text such as 0-3,7."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?\d+)(?:-(-?\d+))?\s*", part)
        if match is None:
            flag = name.replace("_", "-")
            raise CircuitsError(f"--{flag} {text!r}: write numbers and ranges, as in 0-3,7")
        first = int(match[1])
        numbers += range(first, int(match[2] or first) + 1)
    return tuple(numbers)
