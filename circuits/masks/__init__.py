"""Circuits by learned masks: gates on edges, nodes or neurons, trained under a size."""

from circuits.masks.learn import learn_mask
from circuits.masks.result import LearnedMask, MaskRecord
from circuits.options.masks import MaskConfig

__all__ = ["LearnedMask", "MaskConfig", "MaskRecord", "learn_mask"]
