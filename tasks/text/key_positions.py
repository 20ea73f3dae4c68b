"""Positions in a prompt that a head may look for: where sentences and paragraphs begin.

Found in the text that the tokens stand for. The beginning of the prompt itself is left out: every
prompt has one, whatever its text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from tasks.pairs import PairSet
from tasks.text.sentences import core, sentence_ranges
from tasks.text.tokens import Encoding, control_ids, encode_with_offsets

_PARAGRAPH = re.compile(r"\n\s*(?=\S)")


def key_positions(tokenizer: PreTrainedTokenizerBase, pairs: PairSet) -> dict[str, list[list[int]]]:
    """For each pair, the tokens that begin a sentence or a paragraph of the clean prompt.

    "sentence-initial": the first token of each sentence but the first. "paragraph-initial": the
    first token after a line break that is not blank, but the first paragraph's. What stands between
    two control tokens (a chat's header, a message) is a text of its own.
    """
    positions: dict[str, list[list[int]]] = {"sentence-initial": [], "paragraph-initial": []}
    control = control_ids(tokenizer)
    for pair in pairs:
        for tokens in positions.values():
            tokens.append([])
        ids, start = (*pair.clean, *pair.teacher_forced), 0
        for is_control, group in groupby(ids, control.__contains__):
            run = tuple(group)
            if not is_control:
                for name, run_positions in _in_text(tokenizer, run).items():
                    positions[name][-1] += [start + position for position in run_positions]
            start += len(run)
    return positions


def _in_text(tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...]) -> dict[str, list[int]]:
    text, offsets = _offsets(tokenizer, ids)
    first_start, *sentences = [
        core(text, start, end)[0] for start, end in sentence_ranges(text)
    ] or [0]
    paragraphs = [match.end() for match in _PARAGRAPH.finditer(text) if match.end() > first_start]
    ends = [end for _, end in offsets]
    return {
        name: sorted({bisect_right(ends, character) for character in characters} - {0, len(ends)})
        for name, characters in (
            ("sentence-initial", sentences),
            ("paragraph-initial", paragraphs),
        )
    }


def _offsets(
    tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...]
) -> tuple[str, list[tuple[int, int]]]:
    """The text of some tokens and where each stands in it."""
    text = str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
    if tokenizer.is_fast:
        encoding: Encoding = encode_with_offsets(tokenizer, text)
        if encoding.ids == ids:
            return text, list(encoding.offsets)
    # Tokens that the text would not be split into: piece by piece, as each decodes behind itself
    # (decoders of SentencePiece drop the space of a first token).
    pieces = []
    for token in ids:
        single, double = (
            str(tokenizer.decode([token] * times, clean_up_tokenization_spaces=False))
            for times in (1, 2)
        )
        pieces.append(double[len(single) :])
    offsets, end = [], 0
    for piece in pieces:
        offsets.append((end, end + len(piece)))
        end += len(piece)
    return "".join(pieces), offsets
