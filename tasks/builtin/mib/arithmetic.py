"""MIB's two-digit arithmetic (`mib-bench/arithmetic_addition`, `mib-bench/arithmetic_subtraction`).

A row: `prompt`, `label` (the result), `operator`, `operand1`, `operand2`, `num_digit`, and
counterfactuals with a `prompt` and a `label` of their own: random (other operands), which MIB
takes, and ones and tens of one operand, or a carry.

Taken are rows of the operator whose two results are one token each, by themselves: with GPT-2 and
Llama 3 all of them, with tokenizers that write digit by digit those below 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks.builtin.mib.cells import text, word
from tasks.builtin.mib.task import Answers, MIBTask, NotTakenError, require_one_length
from tasks.files import Row
from tasks.generated import require_option

_SETS = {"+": "arithmetic_addition", "-": "arithmetic_subtraction"}


@dataclass(frozen=True, kw_only=True)
class MIBArithmetic(MIBTask):
    """Two-digit arithmetic: the answer is the result, the wrong answer the counterfactual's.

    operator: + or -; rows of the other are left out.
    """

    operator: str = "+"

    name: ClassVar[str] = "mib-arithmetic"
    usual: ClassVar[str] = "random"

    def __post_init__(self) -> None:
        require_option(self.name, "operator", self.operator, tuple(_SETS))
        super().__post_init__()

    @property
    def hub_id(self) -> str:
        """`mib-bench/arithmetic_addition` or `mib-bench/arithmetic_subtraction`."""
        return f"mib-bench/{_SETS[self.operator]}"

    def _answers(self, row: Row, column: str, /) -> Answers:
        counterfactual = row.values[column]
        if counterfactual is None or (
            isinstance(counterfactual, Mapping) and counterfactual.get("prompt") is None
        ):
            raise NotTakenError(f"{row.source}: MIB's filter: it has no {column}")
        return Answers(word(row, "label"), word(row, f"{column}.label"))

    def _require_taken(
        self, tokenizer: PreTrainedTokenizerBase, row: Row, answers: Answers
    ) -> None:
        if (operator := text(row, "operator").strip()) != self.operator:
            raise NotTakenError(f"{row.source}: its operator is {operator!r}")
        require_one_length(tokenizer, row, *answers, most=1)
