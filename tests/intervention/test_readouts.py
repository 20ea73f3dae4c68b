"""A token of one's own is read where it stands: behind the prompts."""

import json

import pytest
import torch
import transformers
from prepending import prepending

import circuits
import tasks
from circuits.errors import CircuitsError
from circuits.intervention.patching import PatchSpec, patch
from circuits.models import HookedModel

CLEAN, CORRUPTED = "the capital of France is", "the capital of England is"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=400, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return HookedModel(transformers.LlamaForCausalLM(config), prepending(), "tiny")


def test_text_and_ids_are_the_same_question(model, tmp_path):
    """A space before a word is part of its token, behind a prompt of text or of ids."""
    tokenizer = model.tokenizer
    row = {"correct": " Paris", "incorrect": " London"}
    clean, corrupted = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (CLEAN, CORRUPTED)
    )
    rows = {"text": {"clean": CLEAN, "corrupted": CORRUPTED}}
    rows["ids"] = {"clean": clean, "corrupted": corrupted}
    right, wrong = tokenizer.convert_tokens_to_ids(["▁Paris", "▁London"])
    logits = model.hf(torch.tensor([clean])).logits[0, -1]
    expected = float(logits[right] - logits[wrong])
    rank = float((logits > logits[right]).sum()) + 1
    assert abs(expected) > 1e-3 and rank > 1
    for name, prompts in rows.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps([{**prompts, **row}]))
        pairs = tasks.load("table", path=path).pairs(tokenizer)
        assert (pairs[0].answer, pairs[0].wrong) == (((right,),), ((wrong,),))
        scores = circuits.attribute(model, pairs, "eap")
        assert scores.provenance.metric_clean == pytest.approx(expected, abs=1e-5)
        found = patch(
            model, pairs, PatchSpec("z"), metrics=["rank: Paris", "rank:Paris", f"rank:#{right}"]
        )
        assert [float(found.clean[metric]) for metric in found.metrics] == [rank] * 3


def test_control_tokens_by_name_and_what_is_no_token(model, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(f"clean,corrupted,correct\n{CLEAN},{CORRUPTED}, Paris\n")
    pairs = tasks.load("table", path=path).pairs(model.tokenizer)
    found = patch(model, pairs, PatchSpec("z"), metrics=["logit:</s>", "logit:#2"])
    assert torch.equal(found.clean["logit:</s>"], found.clean["logit:#2"])
    with pytest.raises(CircuitsError, match=r"' Mayor' is 5 tokens \['▁', 'M', .*\], not one"):
        patch(model, pairs, PatchSpec("z"), metrics=["rank: Mayor"])
