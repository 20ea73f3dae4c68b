"""Quantised weights: multiplied as what they stand for, recorded, and refused where gradients are
none or others'; and an encoder-decoder whose halves have other heads.
"""

import builtins
import copy
import json
import warnings

import pytest
import torch
from conftest import ENCODER_DECODERS, make_model, randomised
from gguf_writer import write
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

import circuits
from circuits.errors import CircuitsError
from circuits.models import HookedModel
from circuits.models.plain import quantisation
from circuits.models.quantised import (
    KINDS,
    QuantisedLinear,
    dequantised,
    exact_products,
    quantise,
    require_package,
)
from circuits.models.weight_loading import WeightLoading
from circuits.provenance import describe_model

HOW = {"int8": {"load_in_8bit": True}, "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}}


def layers_of(model):
    found = {n: m for n, m in model.named_modules() if isinstance(m, QuantisedLinear)}
    assert found
    return found


def turned_back(model):
    """A plain copy with the numbers that the codes stand for."""
    plain = copy.deepcopy(model)
    for path, layer in layers_of(plain).items():
        rows, columns = layer.shape
        made = nn.Linear(columns, rows, bias=layer.bias is not None)
        made.weight.data = layer.weight.clone()
        if layer.bias is not None:
            made.bias.data = layer.bias.data.clone()
        plain.set_submodule(path, made)
    return plain


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "t5"])
@pytest.mark.exhaustive_but("gpt2-int8", "llama-nf4")
def test_scores_are_those_of_the_dequantised_weights(name, kind, model_folder, random_pairs):
    model = HookedModel.from_pretrained(
        model_folder(name), device="cpu", weights=WeightLoading(kind)
    )
    plain, pairs = HookedModel(turned_back(model.hf), None, "plain"), random_pairs(n=2)
    for how in ({"method": "relp"}, {"method": "gim"}, {"steps": 2}):
        found, expected = (circuits.attribute(each, pairs, **how).matrix for each in (model, plain))
        reach = float(expected.abs().max())
        assert reach > 0
        assert torch.allclose(found, expected, rtol=0, atol=1e-5 * reach)
    unquantised = HookedModel.from_pretrained(model_folder(name), device="cpu")
    assert not torch.allclose(found, circuits.attribute(unquantised, pairs, steps=2).matrix)
    assert model.weight_bytes < 0.8 * unquantised.weight_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_quantising_in_place_gives_what_the_loader_gives(kind, model_folder):
    """An adapter is merged first, so its model is quantised when it is there."""
    loaded = HookedModel.from_pretrained(
        model_folder("gpt2"), device="cpu", weights=WeightLoading(kind)
    )
    mine = make_model("gpt2")
    quantise(mine, kind)
    mine, theirs = layers_of(mine), layers_of(loaded.hf)
    assert mine.keys() == theirs.keys()
    for path, layer in mine.items():
        assert torch.equal(layer.codes, theirs[path].codes)
        assert torch.equal(layer.scales, theirs[path].scales)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_stand_for_the_weights(kind):
    linear = make_model("llama").model.layers[0].mlp.up_proj
    weight = linear.weight.detach()
    found = QuantisedLinear.of(linear, kind).weight
    if kind == "int8":
        reach = weight.abs().amax(dim=1, keepdim=True) / 127 / 2
        assert ((found - weight).abs() <= 1.05 * reach).all()
    else:  # sixteen numbers, times the largest of 64 neighbours
        blocks = found.view(-1, 64) / weight.view(-1, 64).abs().amax(dim=1, keepdim=True)
        assert len(torch.unique(blocks.round(decimals=4))) == 16
        assert float((found - weight).abs().mean() / weight.abs().mean()) < 0.15
    assert not torch.equal(found, weight)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_transformers_quantised(kind, model_folder):
    raw = AutoModelForCausalLM.from_pretrained(
        model_folder("llama"),
        quantization_config=BitsAndBytesConfig(**HOW[kind], bnb_4bit_use_double_quant=True),
        dtype=torch.float32,
        device_map={"": "cpu"},
    )
    model = HookedModel(raw, None, "q")
    record = describe_model(model)
    assert record.quantisation == f"bitsandbytes {_version()} {kind}"
    assert record.precision == f"bitsandbytes {_version()} {kind}, computed in float32"
    assert not record.has_other_weights(record.model_copy(update={"quantisation": None}))


def _version():
    import bitsandbytes

    return bitsandbytes.__version__


def test_bitsandbytes_own_int8_mixes_prompts_and_ours_does_not(model_folder):
    """Its layers in evaluation mode round what goes in, but for columns in which any prompt of the
    batch has a value of 6 or more.
    """
    raw = AutoModelForCausalLM.from_pretrained(
        model_folder("llama"),
        quantization_config=BitsAndBytesConfig(load_in_8bit=True),
        dtype=torch.float32,
        device_map={"": "cpu"},
    )
    layer = raw.model.layers[0].mlp.up_proj
    draw = torch.Generator().manual_seed(0)
    alone = torch.randn(1, 3, 32, generator=draw)
    beside = torch.cat([alone, alone.clone().index_fill(2, torch.tensor([5]), 9.0)])
    with torch.no_grad():
        assert (layer(beside)[:1] - layer(alone)).abs().max() > 1e-3
        exact_products(raw)
        layer = raw.model.layers[0].mlp.up_proj
        assert isinstance(layer, QuantisedLinear)
        assert torch.allclose(layer(beside)[:1], layer(alone), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gguf_file_is_quantised_too(kind, tmp_path):
    original = make_model("llama")
    path = write(tmp_path / "m.gguf", original)
    model = HookedModel.from_pretrained(path, device="cpu", weights=WeightLoading(kind))
    quantise(original, kind)
    theirs = layers_of(original)
    for name, layer in layers_of(model.hf).items():
        assert torch.equal(layer.codes, theirs[name].codes)


class Other(nn.Linear):
    """A layer of another library, with the weights of a plain one."""

    __module__ = "torchao.quantization"

    def __init__(self, linear):
        super().__init__(1, 1, bias=False)
        self.weight = nn.Parameter(linear.weight.detach(), requires_grad=False)


class Rounding(Other):
    def forward(self, x):
        return (x / 0.1).round() * 0.1 @ self.weight.T


class Silent(Other):
    def forward(self, x):
        return x.detach() @ self.weight.T


class Codes(Other):
    __module__ = "gptqmodel.nn_modules"

    def __init__(self, linear):
        super().__init__(linear)
        self.weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)


def replaced(kind, parts=("self_attn", "mlp")):
    model = make_model("llama")
    for layer in model.model.layers:
        for owner in (getattr(layer, part) for part in parts):
            for name, module in list(owner.named_children()):
                if isinstance(module, nn.Linear):
                    setattr(owner, name, kind(module))
    return model


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Rounding, r"^q: its weights are quantised \(torchao\S*.*\), and its layers give other "),
        (Silent, "layers give other gradients with respect to the embeddings than those of the we"),
        (Codes, r"quantised \(GPTQ int8\), and what is kept is not what its layers compute with"),
    ],
)
def test_wrong_gradients_are_refused(kind, why):
    with pytest.raises(CircuitsError, match=why):
        HookedModel(replaced(kind), None, "q")


def test_no_gradients_are_refused():
    model = make_model("llama")
    model.lm_head = Silent(model.lm_head)
    with pytest.raises(CircuitsError, match="its layers give no gradients with respect to the emb"):
        HookedModel(model, None, "q")


def test_right_gradients_of_another_library_are_taken(random_pairs):
    model = HookedModel(replaced(Other), None, "q")
    assert circuits.attribute(model, random_pairs(n=1), "eap").matrix.any()
    assert describe_model(model).quantisation.startswith("torchao")


def test_what_can_be_turned_back_is():
    assert dequantised(Conv1D(3, 5)).shape == (5, 3)
    with pytest.raises(CircuitsError, match="Codes: not a linear projection"):
        dequantised(Codes(nn.Linear(4, 4)))


def test_torchs_own_quantisation_is_named():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        model = torch.ao.quantization.quantize_dynamic(
            make_model("llama"), {nn.Linear}, dtype=torch.qint8
        )
    assert quantisation(model) == "torch.ao qint8"
    with pytest.raises(CircuitsError, match=r"quantised \(torch.ao qint8\)"):
        HookedModel(model, None, "q")


def test_quantising_twice_is_refused(tmp_path, model_folder):
    make_model("llama").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    file.write_text(json.dumps(config))
    with pytest.raises(CircuitsError, match="quantised already; load it without quantize nf4"):
        HookedModel.from_pretrained(tmp_path, weights=WeightLoading("nf4"))


def test_the_package_may_be_missing(monkeypatch):
    own = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "bitsandbytes":
            raise ImportError(name)
        return own(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CircuitsError, match=r"nf4: .*pip install 'circuit-discovery\[quantize\]'"):
        WeightLoading("nf4")


def test_an_unknown_kind_is_refused():
    with pytest.raises(CircuitsError, match="unknown quantisation 'int3'; known: int8, nf4"):
        require_package("int3")


def test_unlike_heads_are_the_reason():
    config = ENCODER_DECODERS["bart"]()
    config = type(config)(**{**config.to_dict(), "encoder_attention_heads": 2})
    with pytest.raises(CircuitsError, match=r"differ in their number of heads \(2 and 4\)"):
        HookedModel(randomised(config), None, "bart")
