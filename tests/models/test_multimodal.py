"""Models that see, through all that is done with a model: the text's configuration and layers."""

from functools import partial

import pytest
import torch
import transformers
from conftest import CONTEXT, VOCABULARY, make_tokenizer, randomised

import circuits
from circuits.cli.app import app
from circuits.intervention.patching import PatchSpec
from circuits.models import HookedModel, load_model
from circuits.models.language import auto_class, special_tokens, tower
from circuits.options.evaluation import StabilityConfig

TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
}
VISION = {  # as many layers as the text has, of the same names
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
QWEN_VISION = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 8,
}
QWEN_TOKENS = {
    "image_token_id": 390,
    "video_token_id": 391,
    "vision_start_token_id": 392,
    "vision_end_token_id": 393,
}
SEEING = {
    "gemma3": lambda: transformers.Gemma3Config(
        text_config={**TEXT, "query_pre_attn_scalar": 8, "sliding_window": 6},
        vision_config=VISION,
        mm_tokens_per_image=4,
        boi_token_index=391,
        eoi_token_index=392,
        image_token_index=390,
    ),
    "mistral3": lambda: transformers.Mistral3Config(
        text_config={"model_type": "mistral", **TEXT},
        vision_config={"model_type": "pixtral", **VISION, "head_dim": 8},
        image_token_index=390,
    ),
    "llava": lambda: transformers.LlavaConfig(
        text_config={"model_type": "llama", **TEXT},
        vision_config={"model_type": "clip_vision_model", **VISION},
        image_token_index=390,
    ),
    "qwen2.5-vl": lambda: transformers.Qwen2_5_VLConfig(
        text_config={**TEXT, "rope_parameters": ROPE}, vision_config=QWEN_VISION, **QWEN_TOKENS
    ),
    "qwen3-vl": lambda: transformers.Qwen3VLConfig(
        text_config={**TEXT, "rope_parameters": ROPE},
        vision_config={**QWEN_VISION, "deepstack_visual_indexes": [0]},
        **QWEN_TOKENS,
    ),
}
TEXT_TWINS = {"gemma3": "gemma3_text", "mistral3": "mistral", "llava": "llama"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """name -> folder of a saved model that sees, with a tokenizer."""
    root = tmp_path_factory.mktemp("seeing")

    def make(name):
        if not (root / name).exists():
            randomised(SEEING[name]()).save_pretrained(root / name)
            make_tokenizer().save_pretrained(root / name)
        return root / name

    return make


@pytest.fixture(scope="module")
def seeing(folder):
    loaded = {}

    def load(name):
        if name not in loaded:
            loaded[name] = HookedModel.from_pretrained(folder(name), device="cpu")
        return loaded[name]

    return load


@pytest.mark.parametrize("name", SEEING)
@pytest.mark.exhaustive_but("gemma3", "qwen2.5-vl")
def test_what_sees_is_its_text_model(name, seeing, random_pairs):
    model, pairs = seeing(name), random_pairs(n=2)
    assert (model.layout.n_layers, model.layout.n_kv_heads, model.n_ctx) == (2, 2, CONTEXT)
    assert tower(model.hf) == "model.language_model"
    assert model.view.layers[0].block is model.hf.model.language_model.layers[0]
    scores = circuits.attribute(model, pairs, "eap-ig", steps=3)
    exact = circuits.attribute(model, pairs, "exact")
    assert exact.matrix.abs().max() > 1e-3 and scores.matrix.abs().max() > 1e-3
    if name in TEXT_TWINS:  # the same as of the text model by itself
        config = model.hf.config.get_text_config()
        assert config.model_type == TEXT_TWINS[name]
        alone = auto_class(config).from_config(config)
        alone.model.load_state_dict(model.hf.model.language_model.state_dict())
        alone.lm_head.load_state_dict(model.hf.lm_head.state_dict())
        twin = circuits.attribute(HookedModel(alone, None, "twin"), pairs, "eap-ig", steps=3)
        assert (twin.matrix - scores.matrix).abs().max() <= 1e-5 * scores.matrix.abs().max()


@pytest.mark.parametrize("name", ["gemma3", "mistral3", "qwen2.5-vl"])
def test_diffs_patching_and_evaluation_read_the_text(name, seeing, random_pairs):
    model, pairs = seeing(name), random_pairs(n=2)
    assert circuits.diff_models(model, model, pairs, n_resamples=20).identical
    patched = circuits.patch(model, pairs, PatchSpec("pattern"))
    found = patched.mean()
    assert (found - patched.corrupted[patched.metrics[0]].mean()).abs().max() > 1e-3
    curve = circuits.faithfulness(model, circuits.attribute(model, pairs, "eap"), pairs)
    assert curve.cpr == curve.cpr


def test_special_tokens_stand_in_either_configuration():
    config = SEEING["gemma3"]()
    config.get_text_config().eos_token_id, config.get_text_config().pad_token_id = [1, 7], None
    config.get_text_config().bos_token_id, config.eos_token_id = 2, 9
    assert special_tokens(config) == {1, 2, 7, 9}


@pytest.mark.parametrize("name", ["gemma3", "mistral3", "llava", "qwen2.5-vl"])
def test_an_adapter_sits_on_the_language_tower_alone(name, folder, tmp_path):
    from peft import PeftModel, get_peft_model

    from circuits.models.adapters import quiet_peft
    from circuits.tuning.targets import Projections, adapted_layers, lora_config, wrap

    plain, _ = load_model(folder(name), device="cpu")
    assert Projections.of(plain).stack == "model.language_model.layers"
    for layers in (None, [1]):
        base, _ = load_model(folder(name), device="cpu")
        config = lora_config(layers, base, rank=2)
        adapted = wrap(base, config)
        assert adapted_layers(adapted) == ((0, 1) if layers is None else (1,))
        named = [path for path, _ in adapted.named_modules() if path.endswith(".lora_A")]
        assert named and all(".language_model.layers." in path for path in named)
    # What PEFT makes of the configuration by itself is the same.
    other, _ = load_model(folder(name), device="cpu")
    with quiet_peft():
        by_peft = [path for path, _ in get_peft_model(other, config).named_modules()]
    assert [path for path in by_peft if path.endswith(".lora_A")] == named
    for path, parameter in adapted.named_parameters():
        if "lora_B" in path:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(tmp_path)
    tokens = torch.arange(1, 9)[None]
    expected = adapted(input_ids=tokens).logits
    merged = HookedModel.from_pretrained(tmp_path, base=folder(name), device="cpu")
    assert torch.allclose(merged.hf(input_ids=tokens).logits, expected, atol=1e-4)
    assert not torch.allclose(plain(input_ids=tokens).logits, expected, atol=1e-2)
    assert isinstance(adapted, PeftModel)


@pytest.mark.parametrize("name", ["gemma3", "mistral3"])
def test_a_run_of_fine_tuning_is_saved_and_read_again(name, folder, tmp_path):
    from circuits.options.tuning import FinetuneSettings
    from circuits.tuning.finetune import finetune
    from circuits.tuning.generation import generate
    from circuits.tuning.targets import lora_config, wrap
    from tasks.pairs import TrainingExample

    draw = torch.Generator().manual_seed(0)
    examples = [
        TrainingExample(
            tuple(torch.randint(1, 380, (6,), generator=draw).tolist()),
            tuple(torch.randint(1, 380, (3,), generator=draw).tolist()),
        )
        for _ in range(4)
    ]
    settings = FinetuneSettings(steps=2, learning_rate=1e-3, warmup_steps=1, batch_size=2)
    for kind in ("whole", "adapter"):
        model, _ = load_model(folder(name), device="cpu")
        trained = wrap(model, lora_config([0], model, rank=2)) if kind == "adapter" else model
        result = finetune(trained, examples, tmp_path / kind, settings=settings, progress=False)
        place = list(result.checkpoints.values())[-1]
        again = HookedModel.from_pretrained(place, device="cpu")
        tokens = torch.arange(1, 9)[None]
        trained.train(False)
        expected = trained(input_ids=tokens).logits
        assert torch.allclose(again.hf(input_ids=tokens).logits, expected, atol=1e-4)
        assert len(generate(again.hf, [examples[0].prompt], max_new_tokens=3)) == 1


def run(*arguments):
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", ["gemma3", "llava"])
@pytest.mark.exhaustive
def test_every_verb_takes_a_model_that_sees(name, folder, tmp_path, random_pairs, monkeypatch):
    import json

    fewer = partial(StabilityConfig, 20)  # what is looked at is that each verb goes through
    monkeypatch.setattr("circuits.cli.evaluate.StabilityConfig", fewer)

    rows = [
        {
            "clean": [token % 300 for token in pair.clean],
            "corrupted": [token % 300 for token in pair.corrupted],
            "correct_idx": pair.answer[0][0] % 300,
            "incorrect_idx": pair.wrong[0][0] % 300,
        }
        for pair in random_pairs(n=8)
    ]
    data = tmp_path / "pairs.json"
    data.write_text(json.dumps(rows))
    model = ["--model", folder(name), "--device", "cpu"]
    task = ["--task", "table", "--data", data]
    scores = tmp_path / "scores"
    run("discover", *model, *task, "--per-example", "--size", 10, "--out", scores, "--quiet")
    run("evaluate", *model, *task, "--scores", scores, "--out", tmp_path / "evaluation", "--quiet")
    run("patch", *model, *task, "--site", "z", "--out", tmp_path / "patching", "--quiet")
    run("search", *model, *task, "--tau", 5, "--out", tmp_path / "search", "--quiet")
    run("diff", *model, "--base", folder(name), *task, "--out", tmp_path / "diff")
    other = tmp_path / "other"
    run("discover", *model, *task, "--per-example", "--out", other, "--quiet")
    run("compare", scores, other, "--out", tmp_path / "compared", "--n-resamples", 100)
    run("lora", "--model", folder(name), "--circuit", scores / "circuit.json", "--out", tmp_path)
    run("plan", "--model", folder(name), "--length", 16, "--n", 3)
    run("plan", "--model", folder(name), "--length", 16, "--n", 3, "--job", "lora")
