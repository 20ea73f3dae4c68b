"""A run whose base is an adapter: it is merged once, and everything goes on from that model."""

import json

import peft
import pytest
import torch

from circuits.graph import EdgeScores
from circuits.models import HookedModel, load_model
from circuits.models.adapters import quiet_peft
from circuits.options.tuning import FinetuneSettings, LoraProtocol
from circuits.pipeline import load_recipe, run
from circuits.tuning.lora_comparison import ComparedExamples, compare_lora_targets
from circuits.tuning.lora_targets import LoraTarget
from circuits.tuning.targets import lora_config, wrap
from tasks.pairs import TrainingExample

SMALL = [
    "finetune.steps=2",
    "finetune.examples=16",
    "finetune.batch_size=8",
    "finetune.warmup_steps=1",
    "finetune.learning_rate=1.0e-4",
    "finetune.checkpoint_steps=[]",
    "finetune.validation=2",
    "pairs.score=8",
    "pairs.evaluate=4",
    "evaluation={corruptions: [], other_examples: 0, minimality: null, completeness: null, "
    "stability: null, rivals: null, clusters: null, ablations: [], quality: {n_examples: 2}}",
    "comparison={sizes: [0.1], n_resamples: 100, cross_evaluation: null}",
    "model_diff=null",
    "lora=null",
]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A LoRA on the embedded model that changes it; it has no tokenizer of its own."""
    base, _ = load_model("newsroom-gpt2", device="cpu")
    adapted = wrap(base, lora_config([1], base, rank=2))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    folder = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.mark.exhaustive
def test_a_run_goes_on_from_the_merged_model(adapter, tmp_path):
    recipe = load_recipe("quickstart", [f"model={adapter}", *SMALL])
    report = run(recipe, tmp_path / "run", progress=False)
    folder = report.parent
    model = HookedModel.from_pretrained(adapter, device="cpu")
    plain = HookedModel.from_pretrained("newsroom-gpt2", device="cpu")
    scored = EdgeScores.load(folder / "scores/base.safetensors").provenance.model
    assert scored.fingerprint == model.fingerprint != plain.fingerprint
    tuned, tokenizer = load_model(folder / "checkpoints/step-2", device="cpu")
    assert (
        tokenizer is not None and not (folder / "checkpoints/step-2/adapter_config.json").exists()
    )
    weights = {
        name: dict(one.named_parameters())
        for name, one in (("base", model.hf), ("plain", plain.hf), ("tuned", tuned))
    }
    place = "transformer.h.1.attn.c_attn.weight"
    moved = {
        name: (weights["tuned"][place] - weights[name][place]).norm() for name in ("base", "plain")
    }
    assert 0 < moved["base"] < moved["plain"] / 3


def test_compared_loras_record_the_adapter_as_their_base(adapter, tmp_path):
    examples = [TrainingExample((5, 6, 7 + i), (9, 10), f"row {i}") for i in range(4)]
    settings = FinetuneSettings(steps=1, learning_rate=1e-3, warmup_steps=1, batch_size=4)
    protocol, targets = LoraProtocol(training=settings, seeds=(0,)), [LoraTarget("one", (1,))]
    compared = ComparedExamples(examples, examples)
    compare_lora_targets(adapter, compared, targets, protocol, tmp_path)
    (record,) = tmp_path.rglob("step-1/adapter_config.json")
    assert json.loads(record.read_text())["base_model_name_or_path"] == str(adapter)
    with quiet_peft():
        both, _ = load_model(record.parent, device="cpu")
        above = peft.PeftModel.from_pretrained(load_model(adapter, device="cpu")[0], record.parent)
    tokens = torch.arange(1, 9)[None]
    with torch.no_grad():
        expected = above.eval()(input_ids=tokens).logits
        torch.testing.assert_close(both(tokens).logits, expected, atol=1e-5, rtol=1e-5)
