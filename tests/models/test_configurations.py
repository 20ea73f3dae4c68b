"""Configurations that transformers refuses or breaks on: one line that names the field."""

import json

import pytest
from cli.inside import circuits
from cli.test_cli import refused
from conftest import make_model

from circuits.errors import CircuitsError
from circuits.models import HookedModel, load_model
from circuits.models.checkpoints import load_config


@pytest.fixture
def broken(model_folder, tmp_path):
    """A copy of a model folder with one file changed."""

    def write(name, change, file="config.json"):
        folder = tmp_path / "broken"
        folder.mkdir()
        for path in model_folder(name).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        record = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        content = {**record, **change} if isinstance(change, dict) else change
        (folder / file).write_text(json.dumps(content))
        return folder

    return write


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("llama", {"rms_norm_eps": "1e-6"}, "Field 'rms_norm_eps' expected float, got str"),
        ("llama", {"hidden_size": None}, "Field 'hidden_size' expected int, got NoneType"),
        ("llama", {"num_attention_heads": 5}, "not a multiple of the number of attention heads"),
        ("llama", {"layer_types": ["full_attention"]}, "equal to the number of `layer_types`"),
        ("llama", {"rope_parameters": "x"}, "Field 'rope_parameters' with value 'x'"),
        ("llama", {"eos_token_id": "2"}, "Field 'eos_token_id' with value '2'"),
        ("gpt2", {"n_embd": "32"}, "Field 'n_embd' expected int, got str"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "has rope_scaling.type 'linear'"),
        ("llama", {"dtype": "float99"}, "config.json has dtype 'float99'"),
        ("llama", {"id2label": "x"}, "config.json has id2label 'x'"),
        (
            "llama",
            {"num_key_value_heads": 0},
            "has num_key_value_heads 0, which must be at least 1",
        ),
        ("gpt2", {"n_layer": 0}, "has num_hidden_layers 0, which must be at least 1"),
        ("llama", {"vocab_size": -1}, "has vocab_size -1, which must be at least 1"),
    ],
)
def test_a_configuration_is_refused_by_its_field(broken, name, change, message):
    folder = broken(name, change)
    for read in (load_config, load_model):
        with pytest.raises(CircuitsError) as error:
            read(folder)
        assert str(error.value).startswith(f"{folder}: the model folder cannot be loaded (")
        assert message in str(error.value) and "\n" not in str(error.value), error.value


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("llama", {"hidden_act": "nonsense"}, "KeyError: 'nonsense'; config.json has hidden_act"),
        ("gpt2", {"activation_function": "nope"}, "config.json has activation_function 'nope'"),
        ("llama", {"rope_parameters": {"rope_type": "odd"}}, "has rope_parameters.rope_type 'odd'"),
        ("llama", {"pad_token_id": 99999}, "config.json has pad_token_id 99999"),
    ],
)
def test_a_value_that_breaks_the_model_is_named(broken, name, change, message):
    folder = broken(name, change)
    with pytest.raises(CircuitsError) as error:
        load_model(folder)
    assert message in str(error.value) and "\n" not in str(error.value), error.value


@pytest.mark.parametrize("change", [{"max_new_tokens": -3}, {"cache_implementation": "x"}, []])
def test_generation_settings_that_transformers_refuses_are_named(broken, change):
    with pytest.raises(CircuitsError, match=r"cannot be loaded \(generation_config\.json: "):
        load_model(broken("llama", change, "generation_config.json"))


def test_a_setting_of_outputs_is_no_architecture(broken, random_pairs):
    folder = broken("llama", {"return_dict": False})
    assert HookedModel.from_pretrained(folder, device="cpu").hf.config.return_dict
    model = make_model("llama")
    model.config.return_dict = False
    with pytest.raises(CircuitsError, match="its configuration has return_dict False; set it to"):
        HookedModel(model, None, "mine")


@pytest.mark.parametrize(
    "verb",
    [
        ("discover", "--task", "ioi", "--n", 2, "--model"),
        ("plan", "--length", 8, "--model"),
        ("patch", "--task", "ioi", "--n", 2, "--model"),
        ("finetune", "--task", "newsroom", "--model"),
        ("diff", "--task", "newsroom", "--n", 2, "--base", "newsroom-gpt2", "--model"),
        ("run", "quickstart", "--set"),
    ],
)
def test_every_verb_says_so_in_one_line(broken, verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = broken("llama", {"rms_norm_eps": "1e-6"})
    place = f"model={folder}" if verb[0] == "run" else folder
    done = circuits(*verb, place, *(() if verb[0] == "plan" else ("--out", tmp_path / "out")))
    refused(done, "Field 'rms_norm_eps' expected float, got str")
