"""Quantised weights: used and recorded where they read as what they stand for, else named; and
an encoder-decoder whose halves have other heads.
"""

import warnings

import pytest
import torch
from conftest import ENCODER_DECODERS, make_model, randomised
from torch import nn

import circuits
from circuits.errors import CircuitsError
from circuits.models import HookedModel
from circuits.models.plain import quantisation
from circuits.provenance import describe_model


def scaled(linear):
    """Whole numbers of a byte, and each row's scale."""
    weight = linear.weight.detach()
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round(), scale


class Linear8bitLt(nn.Linear):
    """Rows of whole numbers and their scales, as bitsandbytes keeps them."""

    __module__ = "bitsandbytes.nn.modules"

    def __init__(self, linear):
        super().__init__(1, 1, bias=False)
        whole, self.scale = scaled(linear)
        self.weight = nn.Parameter(whole.to(torch.int8), requires_grad=False)

    def forward(self, x):
        return x @ (self.weight * self.scale).T


class Linear4bit(nn.Linear):
    """Two numbers a byte, in one column."""

    __module__ = "bitsandbytes.nn.modules"
    quant_type = "nf4"

    def __init__(self, linear):
        super().__init__(1, 1, bias=False)
        whole, scale = scaled(linear)
        self.read = (whole * scale).T
        packed = torch.zeros(whole.numel() // 2, 1, dtype=torch.uint8)
        self.weight = nn.Parameter(packed, requires_grad=False)

    def forward(self, x):
        return x @ self.read


class QType:
    name = "qint8"


class QLinear(nn.Linear):
    """Numbers that read as what they stand for, as quanto's do."""

    __module__ = "optimum.quanto.nn.qlinear"
    weight_qtype = QType

    def __init__(self, linear):
        super().__init__(1, 1, bias=False)
        whole, scale = scaled(linear)
        self.weight = nn.Parameter(whole * scale, requires_grad=False)


def quantised(kind):
    model = make_model("llama")
    for layer in model.model.layers:
        for owner in (layer.self_attn, layer.mlp):
            for name, module in list(owner.named_children()):
                if isinstance(module, nn.Linear):
                    setattr(owner, name, kind(module))
    return model


@pytest.mark.parametrize(
    ("kind", "said"), [(Linear8bitLt, "bitsandbytes int8"), (Linear4bit, "bitsandbytes nf4")]
)
def test_numbers_that_are_not_the_weights_are_said_to_be_quantised(kind, said):
    model = quantised(kind)
    assert quantisation(model) == said
    with pytest.raises(CircuitsError, match=rf"^q: its weights are quantised \({said}\)"):
        HookedModel(model, None, "q")


def test_numbers_that_read_as_the_weights_are_used_and_recorded(random_pairs):
    model = HookedModel(quantised(QLinear), None, "q")
    assert circuits.attribute(model, random_pairs(n=1), "eap").matrix.any()
    assert describe_model(model).dtype == "quanto qint8, computed in float32"


def test_torchs_own_quantisation_is_named():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        model = torch.ao.quantization.quantize_dynamic(
            make_model("llama"), {nn.Linear}, dtype=torch.qint8
        )
    with pytest.raises(CircuitsError, match=r"quantised \(torch.ao qint8\)"):
        HookedModel(model, None, "q")


def test_unlike_heads_are_the_reason():
    config = ENCODER_DECODERS["bart"]()
    config = type(config)(**{**config.to_dict(), "encoder_attention_heads": 2})
    with pytest.raises(CircuitsError, match=r"differ in their number of heads \(2 and 4\)"):
        HookedModel(randomised(config), None, "bart")
