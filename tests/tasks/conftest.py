import json

import jaxtyping
import pytest
from hypothesis import settings
from tokenizers_of_texts import byte_pairs_of, of_words

# A busy machine is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

_PEOPLE = ["Ana Bell", "Boris Crane", "Clara Dunn", "Dan Ebert", "Eva Frost", "Finn Gray"]
_PLACES = ["Ardon", "Bexley", "Corvin", "Dalby", "Elmstead", "Farrow"]
_POSTS = ["mayor", "treasurer", "judge"]


def _article(i):
    person, place, post = _PEOPLE[i % 6], _PLACES[(i * 5 + 1) % 6], _POSTS[i % 3]
    reason = ["a long strike", "weeks of protests", "a leaked letter, Dr. Hale said"][i // 6 % 3]
    return {
        "article": (
            f"It rained on the {i + 2}th day of the month. {person} resigned as {post} of {place} "
            f"after {reason}.\n\nThe market stayed open — and busy — until late. "
            "Buses were delayed by roadworks near the old bridge. "
            f"{_PEOPLE[(i + 2) % 6]} was seen at the café with friends."
        ),
        "highlights": f"{person} resigned as {post} of {place}.",
    }


@pytest.fixture(scope="session")
def articles():
    """Rows with an article of five sentences, the second being what the summary says."""
    return [_article(i) for i in range(18)]


@pytest.fixture
def articles_file(tmp_path, articles):
    path = tmp_path / "articles.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in articles), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def bpe():
    """(texts, vocabulary) -> tokenizer."""
    return byte_pairs_of


@pytest.fixture(scope="session")
def tokenizer(articles):
    """Tiny: few words of the generated tasks are single tokens."""
    return byte_pairs_of([" TL;DR: ".join(row.values()) for row in articles], 600)


@pytest.fixture(scope="session")
def word_tokenizer():
    """Every word of the generated tasks is one token, and so are a century and two digits."""
    return of_words()


@pytest.fixture
def unchecked(monkeypatch):
    """No type checks at run time, as outside the tests: what the code itself says of a bad type."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
