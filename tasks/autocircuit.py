"""AutoCircuit's prompt files, as rows of the task `table`.

A file is one object: `prompts`, a list of `clean`, `corrupt`, `answers` and `wrong_answers`, and in
some files `seq_labels` and `word_idxs`, which say what stands at a position and touch no prompt.
Prompts are text or token ids; answers are a list of texts or of token ids, each counted as right
(or as wrong) at the one position behind the prompt. Source: `load_datasets_from_json` in
UFO-101/auto-circuit, auto_circuit/data.py, which puts the beginning-of-text token before every text
by default: `add_bos` of `table`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tasks.errors import InputError

_HARMLESS = ("seq_labels", "word_idxs")
_COLUMNS = {"corrupt": "corrupted", "answers": "correct", "wrong_answers": "incorrect"}


def is_prompts(record: Mapping[str, object]) -> bool:
    """Whether an object is such a file's."""
    return any(isinstance(prompt, dict) and "corrupt" in prompt for prompt in _prompts(record))


def rows(name: str, record: Mapping[str, object]) -> Iterator[object]:
    """The prompts with `table`'s columns beside their own; `name` is the file's, for messages.

    An answer list of one text is that text, which may be several tokens. A key of the file that is
    not AutoCircuit's is refused.
    """
    if unknown := sorted(set(record) - {"prompts", *_HARMLESS}):
        raise InputError(
            f"{name}: the key {unknown[0]!r} beside 'prompts' is none of AutoCircuit's "
            f"({', '.join(_HARMLESS)}); remove it if the prompts mean the same without it"
        )
    for prompt in _prompts(record):
        yield {**prompt, **dict(_columns(prompt))} if isinstance(prompt, dict) else prompt


def _prompts(record: Mapping[str, object]) -> list[object]:
    prompts = record.get("prompts")
    return prompts if isinstance(prompts, list) else []


def _columns(prompt: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for prompt_key, column in _COLUMNS.items():
        value = prompt.get(prompt_key)
        if prompt_key in prompt and column not in prompt and f"{column}_idx" not in prompt:
            yield (
                (f"{column}_idx" if _are_ids(prompt_key, value) else column),
                _alone(prompt_key, value),
            )


def _are_ids(column: str, value: object) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return column != "corrupt" and any(isinstance(number, int | float) for number in numbers)


def _alone(column: str, value: object) -> object:
    if column != "corrupt" and isinstance(value, list) and len(value) == 1:
        return value[0]
    return value
