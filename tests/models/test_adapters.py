"""Adapters: added tokens, what has no merged weights, records that are not plausible."""

import json
import warnings

import peft
import pytest
import torch
from conftest import VOCABULARY, make_tokenizer

from circuits.errors import CircuitsError
from circuits.models import HookedModel, load_model
from circuits.models import adapters as merging

NEW = 2
TOKENS = torch.tensor([[5, 6, 7, 10, 11, 12]])
ADDED = torch.tensor([[5, 6, VOCABULARY, 7, VOCABULARY + 1, 12]])


@pytest.fixture
def adapted(model_folder, tmp_path):
    """A trained adapter on a base of so many rows, saved; its folder and its logits unmerged."""

    def make(config, *, name="llama", rows=None, save="auto", tokens=TOKENS):
        base, _ = load_model(model_folder(name), device="cpu")
        torch.manual_seed(3)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            if rows is not None:
                base.resize_token_embeddings(rows, mean_resizing=False)
                for end in (base.get_input_embeddings(), base.get_output_embeddings()):
                    end.weight[VOCABULARY:].normal_()
            model = peft.get_peft_model(base, config).eval()
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape) * 0.2)
            model.save_pretrained(tmp_path / "adapter", save_embedding_layers=save)
            return tmp_path / "adapter", model(input_ids=tokens).logits

    return make


def lora(*targets, **settings):
    return peft.LoraConfig(
        task_type="CAUSAL_LM", r=2, target_modules=list(targets or ("q_proj",)), **settings
    )


@pytest.mark.parametrize(
    ("config", "save"),
    [
        (lora(), "auto"),
        (lora(modules_to_save=["embed_tokens", "lm_head"]), "auto"),
        (lora(modules_to_save=["embed_tokens"]), "auto"),
        (lora("q_proj", "embed_tokens", "lm_head"), "auto"),
        (lora(trainable_token_indices=[VOCABULARY, VOCABULARY + 1]), "auto"),
    ],
)
@pytest.mark.parametrize("rows", [VOCABULARY + NEW, VOCABULARY + 64])
def test_added_tokens_come_with_the_adapter(config, save, rows, adapted, model_folder):
    folder, expected = adapted(config, rows=rows, save=save, tokens=ADDED)
    model = HookedModel.from_pretrained(folder, base=model_folder("llama"), device="cpu")
    assert model.d_vocab == rows
    with torch.no_grad():
        torch.testing.assert_close(model.hf(ADDED).logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sizes", [{"r": 0, "oft_block_size": 4}, {"r": 8, "oft_block_size": 0}])
def test_an_oft_names_its_rank_or_the_size_of_its_blocks(sizes, adapted, model_folder):
    config = peft.OFTConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], **sizes)
    folder, expected = adapted(config)
    assert 0 in (record := json.loads((folder / "adapter_config.json").read_text())).values()
    assert sizes.items() <= record.items()
    merged, base = (
        load_model(place, base=under, device="cpu")[0]
        for place, under in ((folder, model_folder("llama")), (model_folder("llama"), None))
    )
    with torch.no_grad():
        torch.testing.assert_close(merged(TOKENS).logits, expected, atol=1e-5, rtol=1e-5)
        assert (base(TOKENS).logits - expected).abs().max() > 0.01


def test_rows_of_tokens_trained_one_by_one(adapted, model_folder):
    """Tied: the rows of the new tokens are all that there is to know."""
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=2,
        target_modules=["c_attn"],
        trainable_token_indices={"wte": [VOCABULARY, VOCABULARY + 1]},
    )
    rows = VOCABULARY + NEW
    folder, expected = adapted(config, name="gpt2", rows=rows, save=False, tokens=ADDED)
    merged, _ = load_model(folder, base=model_folder("gpt2"), device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(merged(ADDED).logits, expected, atol=1e-5, rtol=1e-5)


def test_a_base_that_was_cut_in_training_is_cut(adapted, model_folder):
    folder, expected = adapted(lora(), rows=VOCABULARY - 30)
    merged, _ = load_model(folder, base=model_folder("llama"), device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(merged(TOKENS).logits, expected, atol=1e-5, rtol=1e-5)


def test_rows_that_nobody_has_are_not_made_up(adapted, model_folder):
    config = lora(trainable_token_indices=[VOCABULARY, VOCABULARY + 1])
    folder, _ = adapted(config, rows=VOCABULARY + NEW, save=False)
    with pytest.raises(CircuitsError, match=r"402 tokens, its base has rows for 400, and .*output"):
        load_model(folder, base=model_folder("llama"), device="cpu")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("XLORA", "XLORA: a gate mixes its LoRAs again for every input, so no one set of weights"),
        ("POLY", "POLY: a router mixes its LoRAs by task"),
        ("LILY", "LILY: a router mixes its adapters"),
        ("SHADOW", "SHADOW: what it adds depends on the input"),
        ("BONE", r"'BONE', which the installed PEFT .* does not know \(MiSS took its place\)"),
        ("FUTURE", "'FUTURE', which the installed PEFT .* does not know; merge it with the PEFT"),
        (None, "names no peft_type"),
    ],
)
def test_what_has_no_merged_weights_is_refused_by_name(kind, message, adapted, model_folder):
    folder, _ = adapted(lora())
    changed(folder, peft_type=kind)
    with pytest.raises(CircuitsError, match=message):
        load_model(folder, base=model_folder("llama"), device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": "2"}, "r '2'; it must be a whole number above 0"),
        ({"r": 0}, "r 0; it must be a whole number above 0"),
        ({"lora_alpha": "x"}, "lora_alpha 'x'; it must be a number"),
        ({"target_modules": 3}, "target_modules 3; it must be names"),
        ({"modules_to_save": "lm_head"}, "modules_to_save 'lm_head'; it must be a list of names"),
        ({"use_xyz": True}, "has use_xyz True, which the installed PEFT .* does not know"),
        ({"alora_invocation_tokens": [5, 6]}, "an activated LoRA"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication makes several layers of one"),
        ({"init_lora_weights": "pissa_niter_4"}, "initialised by pissa_niter_4 .* random numbers"),
        ({"init_lora_weights": "lora_ga"}, "initialised by lora_ga .* gradients of its first"),
        ({"init_lora_weights": "corda"}, "initialised by corda .* activations on chosen"),
    ],
)
def test_records_are_read_whole(change, message, adapted, model_folder):
    folder, _ = adapted(lora())
    changed(folder, **change)
    with pytest.raises(CircuitsError, match=message):
        load_model(folder, base=model_folder("llama"), device="cpu")


def changed(folder, **change):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))


def test_a_setting_of_a_later_peft_that_is_off_does_no_harm(adapted, model_folder):
    folder, expected = adapted(lora())
    changed(folder, use_xyz=False, xyz_config=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged, _ = load_model(folder, base=model_folder("llama"), device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(merged(TOKENS).logits, expected, atol=1e-5, rtol=1e-5)


def test_a_merge_that_is_not_the_adapter_is_refused(adapted, model_folder, monkeypatch):
    """Held against the adapter beside the base, whatever its type says of itself."""
    folder, _ = adapted(lora())
    merge = peft.tuners.lora.Linear.merge

    def twice(self, *args, **kwargs):
        merge(self, *args, **kwargs)
        self.base_layer.weight.data += 0.5 * self.get_delta_weight("default")

    monkeypatch.setattr(peft.tuners.lora.Linear, "merge", twice)
    with pytest.raises(CircuitsError, match=r"\(type LORA\) gives other logits than beside it"):
        load_model(folder, base=model_folder("llama"), device="cpu")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_is_no_other_model(dtype, adapted, model_folder):
    folder, _ = adapted(lora("q_proj", "v_proj", "down_proj"))
    merged, _ = load_model(folder, base=model_folder("llama"), device="cpu", dtype=dtype)
    assert merged.dtype == getattr(torch, dtype)


def test_an_adapter_on_a_merged_adapter_names_it_as_its_base(adapted, model_folder, tmp_path):
    first, _ = adapted(lora())
    changed(first, base_model_name_or_path=str(model_folder("llama")))
    merged, _ = load_model(first, device="cpu")
    with merging.quiet_peft():
        second = peft.get_peft_model(merged, lora("v_proj")).eval()
    torch.nn.init.normal_(
        second.get_submodule(
            "base_model.model.model.layers.0.self_attn.v_proj.lora_B.default"
        ).weight,
        std=0.2,
    )
    second.save_pretrained(tmp_path / "second", save_embedding_layers=False)
    with torch.no_grad():
        expected = second(input_ids=TOKENS).logits
    both, tokenizer = load_model(tmp_path / "second", device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(both(TOKENS).logits, expected, atol=1e-5, rtol=1e-5)
    assert tokenizer.get_vocab() == make_tokenizer().get_vocab()
    assert merging.recorded_base(tmp_path / "second") == str(first)
