"""What the page calls the examples of a task."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskNouns:
    """example: what the model reads. answers: what it goes on with.

    target: the tokens that it is trained on. given: what they are predicted from.
    """

    example: str
    answers: str
    target: str
    given: str


ARTICLES = TaskNouns(
    "article",
    "summaries",
    "the summary's tokens and the end-of-text token",
    "the article and the tokens before",
)
PROMPTS = TaskNouns("example", "answers", "the target's tokens", "the tokens before")
