"""Whether a tokenizer cuts texts as its own `tokenizer.json` says.

transformers 5 builds many tokenizers again from a vocabulary, with the rules of the class that
`tokenizer_config.json` names, and leaves the file's own rules aside (seen with 5.23.0: Yi's, and
copies of GPT-4's and GPT-4o's). The model was trained with those of the file.
"""

from __future__ import annotations

from pathlib import Path

import transformers
from huggingface_hub import try_to_load_from_cache
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from circuits.runtime.notices import say

_FILE = "tokenizer.json"
_PROBES = (
    *("Hello world", " x", "  two spaces first", "a trailing space "),
    *("don't, we're, I'LL", "1234567 + 89 = 2023", "a\n\nb\n\tc   d", "...!?! (x) [y] {z} #1 @me"),
    *("def f(x):\n    return x+1\n", "camelCase snake_case HTTPServer"),
    *(
        "Gr\u00f6\u00dfe na\u00efve",
        "\u0395\u03bb\u03bb\u03ac\u03b4\u03b1",
        "\u65e5\u672c\u8a9e\u306e\u6587",
    ),
    *("\uff21\uff22 \ufb01 \u00bd \u2460", "e\u0301 \u00a0 \u2009x"),
)
"""Texts on which rules differ: spaces, digits, lines, contractions, scripts, compositions."""


def as_file_says(
    tokenizer: PreTrainedTokenizerBase, name: str | Path, revision: str | None
) -> PreTrainedTokenizerBase:
    """The tokenizer, or the one that the file beside it describes where they cut texts differently.

    Says so once, with the first text that they cut differently.

    Args:
        tokenizer: as transformers loads it.
        name: the folder or hub id that it was loaded from.
        revision: of the hub id.

    Returns:
        One of the two; what a text begins and ends with is for each as transformers makes it.
    """
    plain = PreTrainedTokenizerFast  # reads the file itself; its subclasses build again
    rebuilt = isinstance(tokenizer, plain) and type(tokenizer) is not plain
    if not (rebuilt and _file(name, revision)):
        return tokenizer
    from_file: PreTrainedTokenizerBase = plain.from_pretrained(
        str(name), revision=revision or "main"
    )
    for text in _PROBES:
        token_ids, right = (
            cutter(text, add_special_tokens=False)["input_ids"] for cutter in (tokenizer, from_file)
        )
        if token_ids != right:
            say(
                f"{name}: transformers {transformers.__version__} reads its tokenizer as "
                f"{type(tokenizer).__name__}, which cuts {text!r} into {_shown(token_ids)}; "
                f"its {_FILE} cuts it into {_shown(right)}, and that is what is taken"
            )
            return from_file
    return tokenizer


def _file(name: str | Path, revision: str | None) -> bool:
    if Path(name).is_dir():
        return (Path(name) / _FILE).is_file()
    return isinstance(try_to_load_from_cache(str(name), _FILE, revision=revision), str)


def _shown(ids: list[int]) -> str:
    return " ".join(map(str, ids))
