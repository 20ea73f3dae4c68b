"""Prompts that lack the begin token of a model are said, in one line."""

import logging
from dataclasses import replace

import pytest
import transformers
from prepending import prepending

import circuits
import tasks
from circuits.graph.provenance import MissingBegin
from circuits.models import HookedModel
from circuits.models.begin import missing_begin
from circuits.runtime.notices import say
from tasks.pairs import PairSet

WITH, WITHOUT = (1, 5, 6), (5, 6)


def config(**given):
    return transformers.LlamaConfig(**{"bos_token_id": 1, "eos_token_id": 2, **given})


def test_what_the_tokenizer_would_put_there():
    tokenizer = prepending(bos=True)
    assert missing_begin(config(), tokenizer, [WITH, WITH]) is None
    missing = missing_begin(config(bos_token_id=None), tokenizer, [WITH, WITHOUT])
    assert missing == MissingBegin(
        ids=(1,), token="<s>", named_by="tokenizer", n_lacking=1, n=2, offered=True
    )
    line = str(missing)
    assert line.startswith("1 of 2 prompts do not begin with '<s>', which the tokenizer puts")
    assert "\n" not in line


def test_what_the_configuration_names_and_nobody_puts_there():
    tokenizer = prepending()
    line = str(missing_begin(config(), tokenizer, [WITHOUT]))
    assert line.startswith("the model's configuration names the begin token '<s>', and neither")
    assert "add_bos=true puts it there" in line
    assert missing_begin(config(), tokenizer, [WITH]) is None
    other = missing_begin(config(bos_token_id=7), tokenizer, [WITHOUT])
    assert other is not None and not other.offered and "add_bos" not in str(other)
    beyond = missing_begin(config(bos_token_id=10**4), tokenizer, [WITHOUT])
    assert "the begin token of id 10000, and" in str(beyond)
    bare = missing_begin(config(), None, [WITHOUT])
    assert "the begin token of id 1, and" in str(bare)


@pytest.mark.parametrize("begin, end", [(0, 0), (None, 2), (2, [1, 2])])
def test_a_begin_token_that_ends_texts_is_none(begin, end):
    """GPT-2's is its end-of-text token."""
    given = config(bos_token_id=begin, eos_token_id=end)
    assert missing_begin(given, prepending(), [WITHOUT]) is None


def test_it_is_said_once_and_recorded_with_the_scores(tmp_path, caplog):
    path = tmp_path / "pairs.csv"
    path.write_text("clean,corrupted,correct\nthe capital is,the store is, Paris\n")
    tokenizer = prepending()
    shape = {"vocab_size": 400, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    given = config(**shape, num_attention_heads=2, num_key_value_heads=2)
    model = HookedModel(transformers.LlamaForCausalLM(given), tokenizer, "tiny")
    say.cache_clear()
    with caplog.at_level(logging.WARNING):
        task = tasks.load("table", path=path)
        scores = circuits.attribute(model, task.pairs(tokenizer), "eap")
        circuits.attribute(model, task.pairs(tokenizer), "eap")
    assert caplog.messages == [f"warning: {scores.provenance.begin}"]
    scores.save(tmp_path / "scores.safetensors")
    loaded = circuits.EdgeScores.load(tmp_path / "scores.safetensors").provenance.begin
    assert loaded == scores.provenance.begin and loaded.n_lacking == loaded.n == 1
    begun = tasks.load("table", path=path, add_bos=True).pairs(tokenizer)
    assert circuits.attribute(model, begun, "eap").provenance.begin is None
    short = PairSet((replace(begun[0], source="x"),))
    assert model.missing_begin(short) is None
