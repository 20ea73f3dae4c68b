"""Summarisation: an article, " TL;DR:", and the summary that should follow. See README.md."""

from tasks.builtin.summarization.articles import KNOWN_DATASETS
from tasks.builtin.summarization.task import Summarization

__all__ = ["KNOWN_DATASETS", "Summarization"]
