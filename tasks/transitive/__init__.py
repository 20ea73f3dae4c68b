"""The transitive property problem: "a is b. b is c. a is" c."""

from tasks.transitive.nouns import read_nouns
from tasks.transitive.task import TEMPLATES, Transitive

__all__ = ["TEMPLATES", "Transitive", "read_nouns"]
