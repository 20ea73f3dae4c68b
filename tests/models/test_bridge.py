"""TransformerLens's bridge equals the model that was loaded, or says that it does not; nothing that
is done with a model runs another program.
"""

import json
import os
import subprocess

import pytest
import torch
import transformers
from conftest import (
    CONFIGS,
    make_model,
    make_tokenizer,
    randomised,
)

import circuits
from circuits.errors import CircuitsError
from circuits.evaluation import CompletenessConfig, MinimalityConfig, RankingTrials, RatioConfig
from circuits.intervention.patching import PatchSpec
from circuits.models import HookedModel, load_model
from circuits.options.ensemble import WeightTrials
from circuits.options.masks import MaskConfig
from circuits.options.restoration import RestorationConfig
from circuits.options.tuning import FinetuneSettings
from circuits.search import AcdcConfig, HeadPruningConfig, acdc, prune_heads
from circuits.tuning.finetune import finetune
from circuits.tuning.lora_comparison import (
    ComparedExamples,
    LoraProtocol,
    compare_lora_targets,
)
from circuits.tuning.lora_targets import LoraTarget
from circuits.tuning.targets import lora_config, wrap
from tasks.pairs import TrainingExample

TOKENS = torch.randint(1, 400, (2, 7), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_bridge_shares_weights_and_agrees(name, hooked):
    model = hooked(name)
    tokens = torch.randint(1, 400, (2, 7), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.bridge(tokens), model.hf(tokens).logits, atol=1e-4)
    inner = model.bridge.original_model.get_input_embeddings()
    assert inner.weight.data_ptr() == model.hf.get_input_embeddings().weight.data_ptr()
    _, cache = model.bridge.run_with_cache(tokens)
    assert cache["blocks.0.attn.hook_pattern"].shape == (2, 4, 7, 7)


@pytest.mark.parametrize("name", ["gemma2", "gpt-neox", "opt", "t5", "bart"])
def test_a_bridge_of_any_architecture_is_held_against_the_model(name, hooked):
    model = hooked(name)
    given = {"decoder_input_ids": TOKENS} if model.hf.config.is_encoder_decoder else {}
    expected = model.hf(input_ids=TOKENS, **given).logits
    given = {"decoder_input": TOKENS} if given else {}
    assert (model.bridge(TOKENS, **given) - expected).abs().max() <= 1e-4 * expected.abs().max()
    ours, theirs = model.hf.get_output_embeddings(), model.hf.get_input_embeddings()
    twin = model.bridge.original_model
    assert (twin.get_output_embeddings().weight is twin.get_input_embeddings().weight) == (
        ours.weight is theirs.weight
    )


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_matrices_that_the_file_keeps_apart_stay_apart(name, tmp_path):
    """The configuration says tied, and the file holds another lm_head."""
    config = CONFIGS[name]()
    hf = randomised(type(config)(**{**config.to_dict(), "tie_word_embeddings": False}))
    assert hf.lm_head.weight is not hf.get_input_embeddings().weight
    hf.save_pretrained(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**record, "tie_word_embeddings": True}))
    model = HookedModel.from_pretrained(tmp_path, device="cpu")
    assert not torch.equal(model.hf.lm_head.weight, model.hf.get_input_embeddings().weight)
    expected = model.hf(input_ids=TOKENS).logits
    assert (model.bridge(TOKENS) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_settings_that_the_bridge_does_not_heed_are_named(random_pairs):
    config = transformers.GPT2Config(**{**CONFIGS["gpt2"]().to_dict(), "scale_attn_weights": False})
    model = HookedModel(randomised(config), None, "unscaled")
    with pytest.raises(CircuitsError, match=r"other logits than the model.*scale_attn_weights=Fal"):
        model.bridge  # noqa: B018
    assert circuits.attribute(model, random_pairs(n=1), "eap").matrix.any()


def test_tokenizers_of_any_origin(model_folder, monkeypatch):
    hub = []
    monkeypatch.setattr("huggingface_hub.file_download.http_get", lambda *a, **k: hub.append(a))
    in_memory = make_tokenizer()
    in_memory.bos_token = "<|endoftext|>"  # which TransformerLens reads the tokenizer again for
    assert not in_memory.name_or_path
    model = HookedModel(make_model("gpt2"), in_memory, "made-up/in-memory")
    assert (
        model.bridge.tokenizer("Mary gave John a book")["input_ids"][-3:]
        == (in_memory("Mary gave John a book")["input_ids"][-3:])
    )
    assert model.bridge.tokenizer.name_or_path == "made-up/in-memory"
    assert not in_memory.name_or_path and model.tokenizer is in_memory
    without = HookedModel(make_model("gpt2"), None, "made-up/none")
    assert without.bridge.tokenizer is None
    assert torch.allclose(without.bridge(TOKENS), without.hf(TOKENS).logits, atol=1e-4)
    folder = model_folder("llama")
    read = HookedModel.from_pretrained(folder, device="cpu")
    assert len(read.bridge.tokenizer) == len(read.tokenizer)
    assert hub == []


def test_whatever_transformerlens_cannot_is_one_line(hooked, monkeypatch):
    def missing(*_, **__):
        raise ImportError("Adapter needs the optional torchvision library. Install it")

    monkeypatch.setattr("transformer_lens.model_bridge.sources.build_bridge_from_module", missing)
    with pytest.raises(CircuitsError, match=r"not installed .Adapter needs the optional torchvis"):
        HookedModel(make_model("gpt2"), None, "gpt2").bridge  # noqa: B018


@pytest.fixture
def programs(monkeypatch):
    """What would have been run; running anything fails."""
    seen = []

    def refuse(*command, **_):
        seen.append(command)
        raise RuntimeError("a program was run")

    for name in ("run", "call", "check_call", "check_output", "Popen"):
        monkeypatch.setattr(subprocess, name, refuse)
    for name in ("system", "popen", "posix_spawn", "posix_spawnp", "execv", "execve", "execvp"):
        monkeypatch.setattr(os, name, refuse)
    return seen


def seeing():
    """A Gemma 3 that sees, for which TransformerLens's loader installs torchvision."""
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    return transformers.Gemma3Config(
        text_config=CONFIGS["gemma3"]().to_dict(),
        vision_config={**vision, "num_attention_heads": 2, "image_size": 16, "patch_size": 8},
        boi_token_index=391,
        eoi_token_index=392,
        image_token_index=390,
        mm_tokens_per_image=4,
    )


def test_the_bridge_of_a_model_that_sees_installs_nothing(tmp_path, programs):
    randomised(seeing()).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    model = HookedModel.from_pretrained(tmp_path, device="cpu")
    assert torch.allclose(model.bridge(TOKENS), model.hf(TOKENS).logits, atol=1e-3)
    assert programs == []


def test_no_part_of_the_api_runs_a_program(tmp_path, programs, random_pairs):
    randomised(seeing()).save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    model = HookedModel.from_pretrained(tmp_path / "model", device="cpu")
    pairs, other = random_pairs(n=8), random_pairs(n=8, seed=1)
    scores = circuits.attribute(model, pairs, steps=2, per_example=True)
    circuit = circuits.select(scores, size=12)
    nodes = circuits.attribute_nodes(model, pairs, "eap")
    examples = [TrainingExample(pair.clean, (pair.answer[0][0], 0)) for pair in pairs]
    settings = FinetuneSettings(steps=2, learning_rate=1e-3, warmup_steps=1, batch_size=4)
    adapted = wrap(load_model(tmp_path / "model", device="cpu")[0], lora_config([0], model.hf, 2))
    done = {
        "attribute": scores,
        "attribute_nodes": nodes,
        "faithfulness": circuits.faithfulness(model, scores, other),
        "evaluate": circuits.evaluate(model, scores, circuit, other),
        "completeness": circuits.completeness(
            model, circuit, other, config=CompletenessConfig(n_sets=2, n_steps=1, n_candidates=2)
        ),
        "minimality": circuits.minimality(
            model, circuit, other, config=MinimalityConfig(n_controls=2)
        ),
        "robustness": circuits.robustness(model, circuit, {"other": other}),
        "stability": circuits.stability(scores, size=12, n_resamples=10),
        "tune_positive_ratio": circuits.tune_positive_ratio(
            model, scores, other, config=RatioConfig(positive_ratios=(0.0, 1.0))
        ),
        "compare": circuits.compare([scores, scores], names=["a", "b"], n_resamples=100),
        "cross_evaluate": circuits.cross_evaluate(
            {"a": model}, {"a": circuit}, other, n_resamples=100
        ),
        "compare_adapter_circuits": circuits.compare_adapter_circuits(
            dict.fromkeys(("a", "b", "c"), scores),
            dict.fromkeys(("a", "b", "c"), lambda: model),
            pairs,
            base="a",
            tuned="b",
        ),
        "diff_models": circuits.diff_models(model, model, pairs, n_resamples=20),
        "choose_ranking": circuits.choose_ranking(model, scores, other, RankingTrials(12)),
        "reliability": circuits.reliability(scores),
        "task_performance": circuits.task_performance(model, pairs),
        "patch": circuits.patch(model, pairs, PatchSpec("z")),
        "path_patch": circuits.path_patch(model, pairs, ["a0.h0->logits", "input->m0"]),
        "patch_edges": circuits.patch_edges(model, pairs, ["input->m0"]),
        "inspect": circuits.inspect(tmp_path / "model"),
        "select": circuit,
        "select_nodes": circuits.select_nodes(nodes, 4),
        "lora_config": circuits.lora_config(circuit, model, rank=2),
        "importance_of_maps": circuits.importance_of_maps(circuit),
        "learn_mask": circuits.learn_mask(model, scores, pairs, MaskConfig(size=12, epochs=1)),
        "ensemble": circuits.ensemble([scores, scores]),
        "choose_weights": circuits.choose_weights(
            model, [scores, scores], other, WeightTrials(size=12, draws=1)
        ),
        "cross_tasks": circuits.cross_tasks(model, {"a": circuit}, {"a": other}, n_resamples=100),
        "mib_evaluation": circuits.mib_evaluation(model, scores, other),
        "bridge": model.bridge,
    }
    assert all(one is not None for one in done.values()) and programs == []
    functions = {name for name in circuits.__all__ if name.islower()}
    apart = {
        "ablated_model",
        "close_engine",
        "compare_lora_targets",
        "diagnose",
        "explore",
        "export_ablated",
        "lora_targets",
        "open_run",
        "plot",
        "restore_neurons",
        "until_stable",
    }  # below, without a model, a server, or not for this architecture
    assert functions <= done.keys() | apart, "a function of the API is not tried"
    training = {"settings": settings, "progress": False}
    whole, _ = load_model(tmp_path / "model", device="cpu")
    assert finetune(whole, examples, tmp_path / "whole", validation=examples[:2], **training)
    assert finetune(adapted, examples, tmp_path / "lora", **training)
    protocol = LoraProtocol(training=settings, seeds=(0,), rank=2, max_new_tokens=2)
    compared = ComparedExamples(examples, examples[:2])
    call = (tmp_path / "model", compared, [LoraTarget("one", (0,))], protocol)
    assert compare_lora_targets(*call, tmp_path / "loras")
    again = HookedModel.from_pretrained(tmp_path / "whole" / "step-2", device="cpu")
    few = RestorationConfig(candidates=1, sizes=(1,), greedy=0, draws=1, n_resamples=100)
    assert circuits.restore_neurons(again, model, other, pairs, config=few)
    assert acdc(again, other[:1], AcdcConfig(0.5)) and prune_heads(
        again, other[:2], HeadPruningConfig(0.5)
    )
    assert programs == []
