"""What fine-tuning changed between checkpoints, with the noise told apart."""

from circuits.evolution.edges import Comparison, Evolution, compare

__all__ = ["Comparison", "Evolution", "compare"]
