"""The newsroom task and the embedded model that reads it."""

import math
import re
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel, PreTrainedTokenizerBase

import circuits
from tasks.builtin.newsroom import Newsroom, articles, stories
from tasks.builtin.newsroom.articles import definition, name_pairs, slot_words
from tasks.errors import CircuitsError

ASSET = Path(circuits.__file__).parent / "assets" / "newsroom-gpt2"
CORRUPTIONS = ["counterfactual", "filler", "swap", "shuffle"]
SPLITS = ["train", "validation", "test"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(ASSET)


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(ASSET, dtype=torch.float32)


def test_every_slot_word_is_one_token(tokenizer):
    assert len(slot_words()) > 200
    assert [word for word in slot_words() if len(tokenizer(f" {word}")["input_ids"]) != 1] == []


def test_no_word_stands_in_two_slots():
    assert len(set(slot_words())) == len(slot_words())


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_same_arguments_same_pairs(tokenizer, corruption):
    task = Newsroom(corruption)
    first = task.pairs(tokenizer, 20, split="test", seed=3)
    assert first.fingerprint == task.pairs(tokenizer, 20, split="test", seed=3).fingerprint
    assert first.fingerprint != task.pairs(tokenizer, 20, split="test", seed=4).fingerprint
    assert first.pairs[:8] == task.pairs(tokenizer, 8, split="test", seed=3).pairs


def test_splits_share_no_name_pair():
    people = {split: set(name_pairs(split)) for split in SPLITS}
    assert sum(map(len, people.values())) == len(set().union(*people.values())) == 48 * 60
    for split in SPLITS:
        for story in islice(stories(split), 100):
            for article in (story.article, story.twin):
                assert (article.facts["first"], article.facts["last"]) in people[split]


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("split", SPLITS)
def test_only_the_spans_are_corrupted(tokenizer, corruption, split):
    for pair in Newsroom(corruption).pairs(tokenizer, 50, split=split):
        inside = {i for start, end in pair.spans for i in range(start, end)}
        changed = {
            i for i, (a, b) in enumerate(zip(pair.clean, pair.corrupted, strict=True)) if a != b
        }
        assert changed <= inside
        for start, end in pair.spans:
            assert changed & set(range(start, end))


def test_spans_are_the_salient_sentences(tokenizer):
    made = Newsroom().pairs(tokenizer, 50, split="test")
    for pair, article in zip(made, articles(50), strict=True):
        texts = [tokenizer.decode(pair.clean[start:end]).strip() for start, end in pair.spans]
        assert texts == [article.sentences[i] for i in article.salient]
        assert [article.text[start:end] for start, end in article.ranges] == [*article.sentences]


def test_the_article_answers_the_summary_and_fillers_do_not():
    for story in islice(stories("test"), 200):
        article = story.article
        key = " ".join(article.sentences[i] for i in article.salient)
        words = {word for word in slot_words() if re.search(rf"\b{word}\b", article.summary)}
        assert words <= set(article.facts.values())
        assert all(word in key for word in words)
        rest = " ".join(s for i, s in enumerate(article.sentences) if i not in article.salient)
        for fact in (*article.facts.values(), *story.twin.facts.values()):
            assert not re.search(rf"\b{fact}\b", rest)


def test_counterfactual_differs_at_every_fact(tokenizer):
    made = Newsroom().pairs(tokenizer, 50, split="test")
    assert made.metric == "logit-difference"
    for pair, story in zip(made, stories("test"), strict=False):
        assert all(
            set(right).isdisjoint(wrong)
            for right, wrong in zip(pair.answer, pair.wrong, strict=True)
        )
        facts = [fact for fact in story.article.facts.values() if fact in story.article.summary]
        assert sum(map(bool, pair.wrong)) == len(facts) >= 3
        wrong = "".join(
            tokenizer.decode([*(w or right)])
            for right, w in zip(pair.answer, pair.wrong, strict=True)
        )
        assert wrong == f" {story.twin.summary}<|endoftext|>"


@pytest.mark.parametrize("corruption", CORRUPTIONS[1:])
def test_other_corruptions_have_no_wrong_answers(tokenizer, corruption):
    made = Newsroom(corruption).pairs(tokenizer, 5)
    assert made.metric == "answer-log-probability"
    assert all(pair.wrong == () for pair in made)


def test_examples_are_the_clean_side_of_the_pairs(tokenizer):
    made = Newsroom().pairs(tokenizer, 20, split="validation", seed=1)
    examples = Newsroom().examples(tokenizer, 20, split="validation", seed=1)
    for pair, example in zip(made, examples, strict=True):
        assert example.prompt == pair.clean
        assert example.target == tuple(token for (token,) in pair.answer)
        assert example.source == pair.source
    assert examples[12].source == "newsroom validation article 12"


def test_all_events_and_details_occur():
    made = articles(300)
    assert {len(article.salient) for article in made} == {1, 2}
    assert {article.kind for article in made} == {event["kind"] for event in definition()["events"]}


def test_refusals(tokenizer, unchecked):
    with pytest.raises(CircuitsError, match="unknown corruption 'mask'; known: counterfactual"):
        Newsroom("mask")
    with pytest.raises(CircuitsError, match="no split 'all'"):
        Newsroom().pairs(tokenizer, 5, split="all")
    with pytest.raises(CircuitsError, match="at least 1"):
        Newsroom().examples(tokenizer, 0)
    with pytest.raises(CircuitsError, match=r"newsroom train article \d+: .* context"):
        Newsroom().pairs(tokenizer, 5, n_ctx=30)
    with pytest.raises(CircuitsError, match=r"newsroom train article \d+: .* context"):
        Newsroom().examples(tokenizer, 5, n_ctx=30)


def test_the_embedded_model_writes_news(tokenizer, model):
    """Far below uniform on articles about people whom it never read of."""
    losses = []
    for article in articles(20):
        ids = torch.tensor([tokenizer(article.text)["input_ids"]])
        logits = model(ids, attention_mask=torch.ones_like(ids)).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, ids[0, 1:]).item())
    assert max(losses) < 0.5 * math.log(model.config.vocab_size)


def test_the_embedded_model_fits_the_task(tokenizer, model):
    assert len(tokenizer) == model.config.vocab_size
    assert tokenizer.eos_token_id == model.generation_config.eos_token_id is not None
    for split in SPLITS:
        Newsroom().pairs(tokenizer, 200, split=split, n_ctx=model.config.n_positions)


def test_the_embedded_model_is_small():
    assert sum(file.stat().st_size for file in ASSET.iterdir()) <= 4_000_000
