"""MIB's questions with lettered choices: coloured objects and the AI2 Reasoning Challenge.

A row: `prompt`, `choices` (label and text, a list each), `answerKey` (which choice is right, from
0), and the counterfactual `symbol`, whose choices have other labels (numbers for letters). Its
right label is the wrong answer.

**The space.** MIB reads the label as it is written in `choices`, "A", where most tokenizers would
go on from "Answer:" with " A". `space` reads it with the space before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks.builtin.mib.cells import right_label
from tasks.builtin.mib.task import Answers, MIBTask, require_one_length
from tasks.files import Row
from tasks.generated import require_option

DIFFICULTIES = ("easy", "challenge")


@dataclass(frozen=True, kw_only=True)
class _Choices(MIBTask):
    """A question with choices.

    space: read labels with a space before, as text goes on; MIB reads them without.
    """

    space: bool = False

    usual: ClassVar[str] = "symbol"

    def _answers(self, row: Row, column: str, /) -> Answers:
        prefix = " " if self.space else ""
        return Answers(f"{prefix}{right_label(row)}", f"{prefix}{right_label(row, column)}")

    def _require_taken(
        self, tokenizer: PreTrainedTokenizerBase, row: Row, answers: Answers
    ) -> None:
        require_one_length(tokenizer, row, *answers)


@dataclass(frozen=True, kw_only=True)
class MIBMCQA(_Choices):
    """Coloured objects with four choices (`mib-bench/copycolors_mcqa`): the answer is the right
    letter, the wrong answer the counterfactual's label.
    """

    name: ClassVar[str] = "mib-mcqa"
    own_config: ClassVar[str | None] = "4_answer_choices"

    @property
    def hub_id(self) -> str:
        """`mib-bench/copycolors_mcqa`."""
        return "mib-bench/copycolors_mcqa"


@dataclass(frozen=True, kw_only=True)
class MIBARC(_Choices):
    """The AI2 Reasoning Challenge (`mib-bench/arc_easy`, `mib-bench/arc_challenge`): the answer is
    the right letter, the wrong answer the counterfactual's label.

    difficulty: easy or challenge, of MIB's data sets; a path has the rows that it has.
    """

    difficulty: str = "easy"

    name: ClassVar[str] = "mib-arc"

    def __post_init__(self) -> None:
        require_option(self.name, "difficulty", self.difficulty, DIFFICULTIES)
        super().__post_init__()

    @property
    def hub_id(self) -> str:
        """`mib-bench/arc_easy` or `mib-bench/arc_challenge`."""
        return f"mib-bench/arc_{self.difficulty}"
