"""MIB's indirect object identification (`mib-bench/ioi`).

A row: `prompt`, `metadata` (indirect_object, subject, random_a, random_b, random_c, ...),
`choices`, `answerKey`, and counterfactuals, each with a `prompt` of its own: abc, random_names,
s1_io_flip, s2_io_flip and combinations. MIB takes s2_io_flip, in which the giver becomes the
indirect object.

Taken are rows whose indirect object, subject and `random_c` have equally many tokens after a space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks.builtin.mib.cells import text
from tasks.builtin.mib.task import Answers, MIBTask, require_one_length
from tasks.files import Row


@dataclass(frozen=True, kw_only=True)
class MIBIOI(MIBTask):
    """Indirect objects: the answer is the indirect object, the wrong answer the subject."""

    name: ClassVar[str] = "mib-ioi"
    usual: ClassVar[str] = "s2_io_flip"

    @property
    def hub_id(self) -> str:
        """`mib-bench/ioi`."""
        return "mib-bench/ioi"

    def _answers(self, row: Row, _column: str, /) -> Answers:
        columns = ("metadata.indirect_object", "metadata.subject")
        return Answers(*(f" {text(row, column)}" for column in columns))

    def _require_taken(
        self, tokenizer: PreTrainedTokenizerBase, row: Row, answers: Answers
    ) -> None:
        require_one_length(tokenizer, row, *answers, f" {text(row, 'metadata.random_c')}")
