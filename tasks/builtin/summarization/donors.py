"""Text lent by other articles, for the corruption "swap"."""

from __future__ import annotations

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from tasks.builtin.summarization.prompt import Prompt, bare
from tasks.builtin.summarization.sample import Sample
from tasks.errors import CircuitsError


def lend(donors: Iterable[Prompt], length: int, *, opening: bool) -> tuple[int, ...]:
    """`length` tokens of whole sentences from one of the donors; refused when all are too short.

    Of all runs of sentences, the one that has to be cut the least. An opening sentence has no space
    before it, so it replaces an opening sentence only, unless there is no other.
    """
    best_loan: tuple[tuple[bool, int], tuple[int, ...]] | None = None
    for donor in donors:
        for index, (start, _) in enumerate(donor.sentences):
            far_ends = (end for _, end in donor.sentences[index:] if end - start >= length)
            end = next(far_ends, None)
            if end is None:
                break
            cost = ((index == 0) != opening, end - start - length)
            if best_loan is None or cost < best_loan[0]:
                best_loan = (cost, donor.ids[start : start + length])
            if cost == (False, 0):
                return best_loan[1]
    if best_loan is None:
        raise CircuitsError(
            f"no other article has {length} tokens to lend to a salient sentence; use the "
            "corruption 'filler' or 'shuffle', or give more articles"
        )
    return best_loan[1]


class Donors:
    """The articles that lend to each article of a sample: those drawn after it, the last followed
    by the first. With `skip`, articles that cannot be read lend nothing.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, sample: Sample, *, skip: bool) -> None:
        self._skip = skip
        self._tokenizer = tokenizer
        self._sample = sample
        self._made: dict[int, Prompt] = {}

    def after(self, place: int) -> list[Prompt]:
        """Up to ten articles after that place in the order, less those with the same text."""
        text = self._sample.article(place).text
        lenders = []
        for donor in self._sample.following(place):
            try:
                donor_text = self._sample.article(donor).text
            except CircuitsError:
                if not self._skip:
                    raise
                continue
            if donor_text != text:
                if donor not in self._made:
                    self._made[donor] = bare(self._tokenizer, donor_text)
                lenders.append(self._made[donor])
        return lenders
