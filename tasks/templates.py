"""Texts made of a row's columns: "The capital of {country} is", "{peer.country}" for another row's.

A name in braces is a column; `peer.` before it takes the column from the peer row, which is another
row of the same split. Braces that are meant stand doubled, as in Python's `str.format`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from string import Formatter

from tasks.errors import InputError
from tasks.files import Row

_PEER = "peer."


def is_template(text: str | None) -> bool:
    """Whether an option is a template, and no column's name.

    Args:
        text: the option.

    Returns:
        Whether a brace is in it.
    """
    return text is not None and "{" in text


@dataclass(frozen=True)
class Template:
    """A text with columns in it.

    Attributes:
        text: as it was given.
        option: of the task that it was given for, to name in errors.
    """

    text: str
    option: str

    def __post_init__(self) -> None:
        if not list(self.columns):
            raise InputError(f"{self.option}={self.text!r}: no column stands in its braces")

    @property
    def columns(self) -> Iterator[str]:
        """What stands in its braces, in order."""
        return (name for _, name in self._parts if name is not None)

    @property
    def needs_peer(self) -> bool:
        """Whether it takes anything from another row."""
        return any(name.startswith(_PEER) for name in self.columns)

    def of_peer(self, option: str) -> Template:
        """The same text of the peer row.

        Args:
            option: that the new template stands for.

        Returns:
            A template whose columns are all the peer's.
        """
        pieces = (
            _doubled(text) + ("" if name is None else f"{{{_PEER}{name.removeprefix(_PEER)}}}")
            for text, name in self._parts
        )
        return Template("".join(pieces), option)

    def filled(self, row: Row, peer: Row | None = None) -> str:
        """The text of a row.

        Args:
            row: whose columns are taken.
            peer: the other row; needed where the template names it.

        Returns:
            The text.

        Raises:
            InputError: where a column has no value, or none that is text or a number.
        """
        pieces = []
        for text, name in self._parts:
            pieces.append(text)
            if name is not None:
                from_peer = name.startswith(_PEER) and peer is not None
                pieces.append(_cell(peer if from_peer and peer else row, name.removeprefix(_PEER)))
        return "".join(pieces)

    @property
    def _parts(self) -> list[tuple[str, str | None]]:
        """Pieces of text, and the column behind each; None behind the last."""
        try:
            fields = list(Formatter().parse(self.text))
        except ValueError as error:
            raise InputError(
                f"{self.option}={self.text!r}: {error}; a column stands in braces, and a brace "
                "that is meant is written twice"
            ) from error
        for _, name, form, conversion in fields:
            if name == "" or form or conversion:
                raise InputError(
                    f"{self.option}={self.text!r}: a column's name alone stands in braces, as in "
                    "{question}"
                )
        return [(text, name) for text, name, _, _ in fields]


def filled(row: Row, templates: Mapping[str, Template], peer: Row | None = None) -> Row:
    """A row with a cell more for each template.

    Args:
        row: whose columns are taken.
        templates: by the name of the cell that each fills.
        peer: the other row.

    Returns:
        The row, which has these cells in place of its own of the same name.
    """
    cells = {name: template.filled(row, peer) for name, template in templates.items()}
    return replace(row, values={**row.values, **cells})


def require_gap(prompt: str, answer: str, source: str) -> None:
    """Refuse an answer that would run on from the prompt's last word, in scripts with spaces.

    Args:
        prompt: the text before it.
        answer: the filled template.
        source: of the row.

    Raises:
        InputError: with the space that is missing.
    """
    if prompt and answer and _is_of_word(prompt[-1]) and _is_of_word(answer[0]):
        raise InputError(
            f"{source}: the answer {answer!r} stands right behind {prompt.split()[-1]!r}, without "
            "a space between; write the space into the template, as in correct=' {answer}'"
        )


def _is_of_word(letter: str) -> bool:
    """Whether it is a digit, or a letter of a script that has capitals, which put spaces between
    words.
    """
    return letter.isdigit() or letter.lower() != letter.upper()


def _cell(row: Row, column: str) -> str:
    value = row.cell(column)
    row.require_no_column(column)
    if not isinstance(value, str | int | float):
        raise InputError(
            f"{row.source}: column {column!r} holds {type(value).__name__}, not text or a number"
        )
    if not str(value).strip():
        raise InputError(f"{row.source}: column {column!r} is blank")
    return str(value)


def _doubled(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
