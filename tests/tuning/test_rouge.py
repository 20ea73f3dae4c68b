"""Decoding and scoring of summaries."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from circuits.errors import CircuitsError
from circuits.options.tuning import FinetuneSettings
from circuits.runtime.notices import say
from circuits.tuning.finetune import finetune
from circuits.tuning.generation import generate
from circuits.tuning.rouge import SummaryMeans, evaluate_summaries, score_text
from tasks.pairs import TrainingExample


def reference_decode(model, prompt, steps, stop=()):
    """One prompt, no cache, the whole text fed again for each token."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(steps):
            token = int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
            if token in stop:
                break
            tokens.append(token)
    return tuple(tokens[len(prompt) :])


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_batch_decodes_as_each_prompt_alone(name, load, make_examples):
    model = load(name)
    prompts = [example.prompt for example in make_examples(9)]
    expected = [reference_decode(model, prompt, 10) for prompt in prompts]
    assert len(set(expected)) > 1
    assert generate(model, prompts, max_new_tokens=10, batch_size=4) == expected
    stop = {expected[0][4], expected[1][2]}
    cut = [reference_decode(model, prompt, 10, stop) for prompt in prompts]
    assert cut != expected
    assert generate(model, prompts, max_new_tokens=10, stop=stop, batch_size=4) == cut


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_context_window_ends_a_text_and_no_other(name, load):
    model = load(name)
    prompts = [tuple(range(1, 61)), (5, 6, 7)]
    long, short = generate(model, prompts, max_new_tokens=9)
    assert long == reference_decode(model, prompts[0], 4)
    assert short == reference_decode(model, prompts[1], 9)


@pytest.mark.parametrize(
    ("generated", "reference", "expected"),
    [
        ("the cat sat", "the cat sat", (1.0, 1.0, 1.0)),
        ("a dog", "the cat sat", (0.0, 0.0, 0.0)),
        ("", "the cat", (0.0, 0.0, 0.0)),
        ("the cat ran off", "the cat sat", (4 / 7, 2 / 5, 4 / 7)),
        ("cat the", "the cat", (1.0, 0.0, 0.5)),
    ],
)
def test_rouge_by_hand(generated, reference, expected):
    scores = score_text(generated, reference)
    assert tuple(scores.values()) == pytest.approx(expected)
    assert list(scores) == ["rouge1", "rouge2", "rougeL"]


def test_memorised_summaries_score_one(small_gpt2_folder, tokenizer, tmp_path):
    texts = [
        (" Mary gave John a book", " a book to read"),
        (" the capital of France is", " Paris and Rome"),
        (" the capital of Italy is", " Rome in Italy"),
        (" John gave Mary a home", " at home"),
    ]
    end = tokenizer.eos_token_id
    examples = [
        TrainingExample(
            tuple(tokenizer(prompt).input_ids), (*tokenizer(target).input_ids, end), prompt
        )
        for prompt, target in texts
    ]
    model = AutoModelForCausalLM.from_pretrained(small_gpt2_folder, dtype=torch.float32)
    before = evaluate_summaries(model, tokenizer, examples).means
    settings = FinetuneSettings(steps=60, learning_rate=1e-2, batch_size=4)
    finetune(model, examples, tmp_path, settings=settings, progress=False)
    scores = evaluate_summaries(model, tokenizer, examples)
    assert scores.reference == tuple(target.strip() for _, target in texts)
    assert scores.generated == scores.reference
    assert scores.exact_match == (1.0,) * 4
    assert replace(scores.means, loss=0.0) == SummaryMeans(1.0, 1.0, 1.0, 1.0, 1.0, 0.0)
    assert scores.means.loss < 0.1 < before.loss
    assert before.exact_match < 1 and scores.rouge2 == (1.0,) * 4


def test_refusals(load, tokenizer, make_examples):
    with pytest.raises(CircuitsError, match="no evaluation examples"):
        evaluate_summaries(load("gpt2"), tokenizer, [])
    with pytest.raises(CircuitsError, match="max_new_tokens 0"):
        evaluate_summaries(load("gpt2"), tokenizer, make_examples(1), max_new_tokens=0)


def test_other_scripts_are_said_and_counted(load, tokenizer, caplog):
    """A metric that is 0 by construction is refused before anything is generated."""
    say.cache_clear()
    examples = [
        TrainingExample(
            tuple(tokenizer("Mary").input_ids), tuple(tokenizer(target).input_ids), source
        )
        for target, source in ((" Мэр открыл мост", "row 1"), (" the bridge", "row 2"))
    ]
    scores = evaluate_summaries(load("gpt2"), tokenizer, examples)
    assert scores.unicode == 1
    (line,) = caplog.messages
    assert "ROUGE counts words of any script for 1 of 2 references" in line
    assert score_text("Мэр открыл мост", "Мэр открыл мост") == {
        "rouge1": 1.0,
        "rouge2": 1.0,
        "rougeL": 1.0,
    }
    with pytest.raises(CircuitsError, match=r"^row 1: no word of 'Мэр .*every ROUGE would be 0"):
        evaluate_summaries(load("gpt2"), tokenizer, examples, words="ascii")
    english = evaluate_summaries(load("gpt2"), tokenizer, examples[1:], words="ascii")
    assert english.unicode == 0
