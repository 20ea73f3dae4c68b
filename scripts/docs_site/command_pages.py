"""The page of the command line: every verb with its flags, as `--help` says them."""

from __future__ import annotations

import inspect

import typer

from circuits.cli.app import app
from circuits.cli.help_texts import ListingCommand

PAGE = "reference/commands.md"
_HEAD = """# Command line

`circuits VERB --help` says the same in the terminal, and `circuits --install-completion` teaches
the shell verbs, flags, tasks and models. What a setting means in full is in the [table of every
setting](../settings.md).
"""


def page() -> str:
    """The page.

    Returns:
        Markdown.
    """
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    lines = [_HEAD]
    for name, verb in group.commands.items():
        if isinstance(verb, ListingCommand):
            verb.fill_in()
        lines += [f"## circuits {name}", "", *_told(inspect.cleandoc(verb.help or "")), ""]
        context = typer.Context(verb, info_name=name)
        records = (parameter.get_help_record(context) for parameter in verb.get_params(context))
        lines += ["| flag | meaning |", "|---|---|"]
        lines += [_row(flag, meaning) for flag, meaning in filter(None, records)]
        lines.append("")
    return "\n".join(lines)


def _told(help_text: str) -> list[str]:
    """Paragraphs of a help text, with examples as code."""
    lines = []
    for paragraph in help_text.split("\n\n"):
        prose, mark, example = paragraph.partition("Example: ")
        if prose.strip():
            lines += [prose.replace("<", "&lt;").strip(), ""]
        if mark:
            lines += ["```", " ".join(example.split()), "```", ""]
    return lines


def _row(flag: str, meaning: str) -> str:
    """A flag's row. The words that it can be stand with the meaning: the first column is narrow."""
    name, _, value = flag.partition(" ")
    if "|" not in value:
        return f"| `{_cell(flag)}` | {_cell(meaning)} |"
    words = ", ".join(
        "a whole number" if word == "int" else f"`{word}`"
        for word in value.removesuffix(",...").split("|")
    )
    kind = "Some of, with commas between" if value.endswith(",...") else "One of"
    return f"| `{name}` | {_cell(meaning)} {kind}: {words}. |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "&#124;" if "`" in text else "\\|")
