"""What is trained or asked for text.

PEFT takes seconds to import: where no adapter is made, this is imported for type checkers alone.
"""

from __future__ import annotations

from peft import PeftModel
from transformers import PreTrainedModel

TunedModel = PreTrainedModel | PeftModel
"""A causal Hugging Face model, or a PEFT model on one."""
