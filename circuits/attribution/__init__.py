"""Edge scores: one method a file, on one engine."""

from circuits.attribution.attribute import METHODS, attribute, method

__all__ = ["METHODS", "attribute", "method"]
