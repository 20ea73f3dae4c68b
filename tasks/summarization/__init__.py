"""Summarisation: an article, " TL;DR:", and the summary that should follow. See README.md."""

from tasks.summarization.articles import KNOWN_DATASETS
from tasks.summarization.task import Summarization

__all__ = ["KNOWN_DATASETS", "Summarization"]
