"""The newsroom task: short synthetic news articles and one-sentence summaries."""

from tasks.builtin.newsroom.articles import Article, Story, articles, stories
from tasks.builtin.newsroom.task import Newsroom

__all__ = ["Article", "Newsroom", "Story", "articles", "stories"]
