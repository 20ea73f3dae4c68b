"""A model and a task in one object that remembers what was done."""

from circuits.study.study import Step, Study
from circuits.study.summary import Summary

__all__ = ["Step", "Study", "Summary"]
