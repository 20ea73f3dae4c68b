"""Finds out that the import name `circuits` does not, or not alone, belong to this package.

`circuits` on PyPI is an event framework with the same import name. Where both are installed, one
of them is imported in place of the other, or their files are mixed in one folder. Every module of
this package imports `tasks`, so the check stands here, and speaks up even when the other `circuits`
is the one that was imported. It reads one folder and no package metadata, which
takes some tenths of a millisecond.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "circuit-discovery"
_ADVICE = (
    "give this package an environment of its own, or run `pip uninstall circuits` and then, in the "
    "folder of its sources, `pip install --force-reinstall --no-deps .`"
)


def refuse_namesake(site: Path) -> None:
    """Refuse to go on where another package is imported as `circuits`, or shares its folder.

    Args:
        site: The folder that holds our `circuits` and `tasks`.

    Raises:
        ImportError: With the place of the other package and what to do.
    """
    init_file = site / "circuits" / "__init__.py"
    spec = find_spec("circuits")
    origin = None if spec is None or spec.origin is None else Path(spec.origin)
    if origin is None or origin.resolve() != init_file.resolve():
        raise ImportError(
            f"`import circuits` gives {origin or 'no package'}, not {init_file}, which `tasks` "
            f"belongs to: another package has the name `circuits`; {_ADVICE}"
        )
    for record in site.glob("circuits-*info"):
        raise ImportError(
            f"{record.name} beside {DISTRIBUTION}: another package named `circuits` has its files "
            f"in {init_file.parent} too, and either overwrites the other's; {_ADVICE}"
        )
