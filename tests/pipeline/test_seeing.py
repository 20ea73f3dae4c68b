"""A whole run on a model that sees (Gemma 3 of 4B and up, tiny): it is about its text model."""

import json

import pytest
import torch
from cli.inside import circuits as verb
from conftest import make_tokenizer, randomised
from models.test_multimodal import SEEING
from safetensors import safe_open

import circuits
from circuits.graph import EdgeScores
from circuits.models import HookedModel
from circuits.models.language import auto_class
from circuits.runs import open_run
from tasks.pairs import PairSet

SMALL = [
    "device=cpu",
    "task.options.dataset=null",
    "finetune={examples: 16, validation: 8, steps: 2, warmup_steps: 1, batch_size: 8, "
    "learning_rate: 1.0e-3, checkpoint_steps: []}",
    "pairs={score: 8, evaluate: 4}",
    "evaluation={corruptions: [], perturbations: [typos], other_examples: 2, "
    "minimality: {n_pairs: 2, n_controls: 2}, completeness: {n_pairs: 2}, "
    "stability: {n_resamples: 3}, quality: {n_examples: 2}}",
    "comparison={sizes: [0.1], n_resamples: 100, cross_evaluation: 4}",
    "model_diff={documents: 4}",
    "lora={layers: 1, rank: 2, steps: 1, warmup_steps: 1, examples: 8, held_out: 2, batch_size: 8, "
    "learning_rate: 1.0e-3, seeds: [0], validation: 0, conditions: [attention-kl]}",
]


@pytest.mark.exhaustive
def test_every_stage_is_about_the_text_model(tmp_path):
    config = SEEING["gemma3"]()
    config.text_config.max_position_embeddings = config.text_config.sliding_window = 256
    hf = randomised(config)
    hf.save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    rows = [
        {
            "article": f"The mayor of town {i} is at home. Mary gave John book {i} to read. "
            f"Rome is in Italy. It was {i} degrees.",
            "highlights": f"Mary gave John book {i}.",
            "split": ["train", "train", "validation", "test"][i % 4],
        }
        for i in range(64)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    given = [f"model={tmp_path / 'model'}", f"data={tmp_path / 'rows.jsonl'}", *SMALL]
    settings = [part for one in given for part in ("--set", one)]
    folder = tmp_path / "run"
    done = verb("run", "gpt2-cnn-dailymail", "--out", folder, "--quiet", *settings)
    assert done.returncode == 0, done.stderr
    assert (folder / "report.html").stat().st_size > 1e6
    found = EdgeScores.load(folder / "scores" / "base.safetensors")
    # The text model by itself, on the run's pairs.
    text = config.get_text_config()
    alone = auto_class(text).from_config(text)
    alone.model.load_state_dict(hf.model.language_model.state_dict())
    alone.lm_head.load_state_dict(hf.lm_head.state_dict())
    pairs = PairSet.load(folder / "pairs" / "score.jsonl")
    settings = found.provenance.settings
    twin = circuits.attribute(
        HookedModel(alone.eval(), None, "twin"),
        pairs,
        found.method,
        **{name: settings[name] for name in ("steps", "quadrature")},
    )
    assert found.matrix.abs().max() > 1e-3
    assert (found.matrix - twin.matrix).abs().max() <= 1e-5 * twin.matrix.abs().max()
    # Fine-tuning moved the text model, and not the tower that no article reaches.
    tuned, before = (
        HookedModel.from_pretrained(place, device="cpu").hf
        for place in (folder / "checkpoints" / "step-2", tmp_path / "model")
    )
    moved = {
        name: not torch.equal(value, dict(before.named_parameters())[name])
        for name, value in tuned.named_parameters()
    }
    assert moved["model.language_model.layers.0.mlp.up_proj.weight"]
    seen = [name for name in moved if "vision_tower" in name or "projector" in name]
    assert len(seen) > 10 and not any(moved[name] for name in seen)
    (diff,) = open_run(folder).model_diff.comparisons
    assert len(diff.layer_importance("attention-kl").values) == 2
    runs = open_run(folder).lora.of("attention-kl")
    (adapter,) = folder.glob("lora/attention-kl/seed-0/step-1/adapter_model.safetensors")
    with safe_open(str(adapter), framework="pt") as held:
        names = list(held.keys())
    layer = runs[0].layers
    assert names and all(f"language_model.layers.{layer[0]}." in name for name in names)
