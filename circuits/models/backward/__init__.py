"""Backward passes that are not quite the gradient, for attribution methods that correct it.

`rules.py` says what can be changed and changes it for one block of code; each of the other files is
one change, but `parts.py`, which finds what a model has to change and proves it by a run.
"""
