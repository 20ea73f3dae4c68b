"""Help texts that list what the registry of attribution methods holds.

Importing the registry takes seconds (torch), so it is asked only when help is shown.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperOption


class ListingCommand(TyperCommand):
    """A command whose options' help may say {methods}, {node_methods} or {jobs}."""

    # Any: a click.Context, which Typer 0.29 brings along under a private name.
    def get_help(self, ctx: Any) -> str:
        """The help, with the lists filled in."""
        self.fill_in()
        return super().get_help(ctx)

    def fill_in(self) -> None:
        """Put the lists into the options' help."""
        from circuits.attribution.registry import described, node_methods

        lists = {
            "{methods}": described(),
            "{jobs}": described(jobs=True),
            "{node_methods}": ", ".join(node_methods()),
        }
        for option in self.params:
            if isinstance(option, TyperOption) and option.help:
                for name, text in lists.items():
                    option.help = option.help.replace(name, text)
