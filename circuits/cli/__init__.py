"""The command line: a thin skin over the package. One verb a file."""

from circuits.cli.app import main

__all__ = ["main"]
