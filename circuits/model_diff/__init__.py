"""What fine-tuning changed inside a model: attention, hidden states, neurons."""

from circuits.model_diff.diff import ModelDiff, ModelDiffs, diff_models

__all__ = ["ModelDiff", "ModelDiffs", "diff_models"]
