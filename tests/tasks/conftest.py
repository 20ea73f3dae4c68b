import json

import jaxtyping
import pytest
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tasks.builtin.transitive import read_nouns
from tasks.text.lexicon import words

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


def _bpe(texts, d_vocab):
    """A byte-level BPE tokenizer like GPT-2's, trained on the texts."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=d_vocab,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=model, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )


@pytest.fixture(scope="session")
def bpe():
    """(texts, vocabulary) -> tokenizer."""
    return _bpe


@pytest.fixture(scope="session")
def tokenizer(articles):
    """Tiny: few words of the generated tasks are single tokens."""
    return _bpe([" TL;DR: ".join(row.values()) for row in articles], 600)


@pytest.fixture(scope="session")
def word_tokenizer():
    """Every word of the generated tasks is one token, and so are a century and two digits."""
    listed = [word for kind in ("first_names", "surnames", "events") for word in words(kind)]
    listed += [word for player in words("players") for word in player.split()]
    listed += [form for noun in words("countables") for form in noun.split()]
    for split in ("train", "validation", "test"):
        listed += [name for pair in words(f"capitals_{split}") for name in pair.split(":")]
    listed += ["is", "are", "was", "were", "has", "have"]
    digits = [f"{number:02d}" for number in range(100)]
    # Merged earliest: the centuries, so that " 1732" is " 17" and "32".
    centuries = [f" {century}" for century in range(10, 21)] * 200
    numbers = [f" {number}" for number in range(10)] + [f" {number}" for number in digits]
    texts = [f" {word}" for word in (*read_nouns("own"), *listed)]
    return _bpe([*centuries, *digits * 20, *numbers * 10, *texts * 2], 5000)


@pytest.fixture
def unchecked(monkeypatch):
    """No type checks at run time, as outside the tests: what the code itself says of a bad type."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
