"""What is no plain model is refused, or recorded, for the reason that is the reason."""

import pytest
import torch
from conftest import make_model
from peft import LoraConfig, PromptTuningConfig, get_peft_model

from circuits.errors import CircuitsError
from circuits.models import HookedModel
from circuits.models.adapters import quiet_peft
from circuits.models.plain import quantisation, require_plain
from circuits.provenance import describe_model


def unmerged():
    with quiet_peft():
        return get_peft_model(make_model("llama"), LoraConfig(r=2, target_modules=["q_proj"]))


@pytest.mark.parametrize("part", [lambda m: m, lambda m: m.base_model.model])
def test_an_unmerged_adapter_is_called_one(part):
    with pytest.raises(CircuitsError, match=r"not merged into the weights .*merge_and_unload"):
        HookedModel(part(unmerged()), None, "mine")


def test_the_merged_adapter_is_taken():
    assert HookedModel(unmerged().merge_and_unload(), None, "mine").layout.n_layers == 3


def test_a_wrapper_is_told_from_the_model_inside_it():
    with pytest.raises(CircuitsError, match=r"wraps a model; give the model inside it .*module"):
        HookedModel(torch.nn.DataParallel(make_model("gpt2")), None, "mine")
    with pytest.raises(CircuitsError, match="Linear is no model of Hugging Face transformers"):
        HookedModel(torch.nn.Linear(2, 2), None, "mine")


def test_a_prompt_that_was_tuned_and_a_name_are_no_models():
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with quiet_peft():
        tuned = get_peft_model(make_model("llama"), config)
    with pytest.raises(CircuitsError, match="is a PEFT model of type PROMPT_TUNING; only what can"):
        HookedModel(tuned, None, "tuned")
    with pytest.raises(CircuitsError, match=r"gpt2: str where a model is expected; HookedM"):
        require_plain("gpt2", "gpt2")


def test_weights_without_data_are_named():
    with pytest.raises(CircuitsError, match="hold no data here"):
        HookedModel(make_model("gpt2").to("meta"), None, "mine")


def test_return_dict_is_a_setting_and_no_architecture():
    model = make_model("gpt2")
    model.config.return_dict = False
    with pytest.raises(CircuitsError, match="return_dict False; set it to True"):
        HookedModel(model, None, "mine")


def test_whole_weights_are_recorded_as_what_they_are(hooked):
    assert quantisation(hooked("llama").hf) is None
    assert describe_model(hooked("llama")).dtype == "float32"


def test_a_quantised_layer_is_seen():
    model = make_model("llama")
    model.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(
        torch.ones(48, 32, dtype=torch.int8), requires_grad=False
    )
    assert quantisation(model) == "int8"
    with pytest.raises(CircuitsError, match="int8"):
        HookedModel(model, None, "mine")
