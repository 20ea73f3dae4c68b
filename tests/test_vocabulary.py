"""Names that were given up for the field's stay out of the code: identifiers, not prose."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import circuits

ROOT = Path(circuits.__file__).parent.parent

# The word, as a part of a snake_case or CamelCase name -> what to say instead.
BANNED = {
    "against": "base",
    "arm": "lora_target",
    "arms": "lora_targets",
    "bakeoff": "compare_lora_targets",
    "crossing": "cross_evaluation",
    "evolutions": "comparisons",
    "feed": "model_inputs",
    "hush": "silence_libraries",
    "internals": "model_diff",
    "landmarks": "key_positions",
    "recall": "name_copying",
    "replacement": "ablation",
    "unfinished": "PartialResults, or resume",
}
# Whole names, where the word is right as a part of others, or as the name of a class.
BANNED_NAMES = {
    "choose_mix": "tune_positive_ratio",
    "n_bootstrap": "n_resamples",
    "naming": "error_context",
    "resamples": "n_resamples",
    "short_context": "longrope_window",
    "told_apart": "unique_suffixes",
    "vocabulary": "d_vocab",
    "wrote": "echo_outputs",
}
# (file, name): the word is right there.
MEANT = {
    ("tasks/text/masking.py", "replacement"),  # the tokens that replace a span of a text
}


def _parts(name: str) -> list[str]:
    """The words of an identifier: `NBootstrap` and `n_bootstrap` have the same."""
    return re.findall(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]*", name)


def _identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that the code gives: definitions, arguments, variables, attributes, modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg, node.value.lineno
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[-1], node.lineno


def _better(name: str) -> str | None:
    """What to say in place of a name, if it holds a banned word."""
    if name in BANNED_NAMES:
        return BANNED_NAMES[name]
    parts = [part.lower() for part in _parts(name)]
    return next((BANNED[part] for part in parts if part in BANNED), None)


def test_no_identifier_holds_a_word_that_was_given_up():
    found = []
    for package in ("circuits", "tasks"):
        for file in sorted((ROOT / package).rglob("*.py")):
            place = file.relative_to(ROOT).as_posix()
            names = [*_identifiers(ast.parse(file.read_text(encoding="utf-8"))), (file.stem, 1)]
            for name, line in names:
                better = _better(name)
                if better and (place, name) not in MEANT:
                    found.append(f"{place}:{line}: {name}; say {better}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("def kl_against(x): ...", "kl_against"),
        ("class BakeoffResult: ...", "BakeoffResult"),
        ("def f(*, n_bootstrap=1): ...", "n_bootstrap"),
        ("f(unfinished=1)", "unfinished"),
        ("self.replacement = 1", "replacement"),
        ("from a.b import internals", "internals"),
    ],
)
def test_a_word_that_was_given_up_is_found(code, name):
    assert [found for found, _ in _identifiers(ast.parse(code)) if _better(found)] == [name]


def test_other_names_are_left_alone():
    assert not any(map(_better, ("n_resamples", "positive_ratio", "harm", "swarms", "Evolution")))
