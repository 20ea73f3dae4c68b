"""Run folders, read back."""

from circuits.runs.folder import MissingResultError, RunFolder, open_run

__all__ = ["MissingResultError", "RunFolder", "open_run"]
