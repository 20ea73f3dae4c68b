"""What a file or folder is that was written here: `circuits inspect`."""

from circuits.inspection.inspect import inspect
from circuits.inspection.inspection import Inspection

__all__ = ["Inspection", "inspect"]
