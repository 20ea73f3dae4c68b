"""The transitive property problem: "a is b. b is c. a is" c."""

from tasks.builtin.transitive.nouns import read_nouns
from tasks.builtin.transitive.task import TEMPLATES, Transitive

__all__ = ["TEMPLATES", "Transitive", "read_nouns"]
