"""--quantize and --device-map: what is loaded, what is said of it, and what is refused."""

import pytest
from cli.inside import circuits
from cli.test_cli import refused

from circuits.attribution import method
from circuits.cli import precision
from circuits.errors import CircuitsError
from circuits.graph import EdgeScores
from circuits.models import HookedModel, WeightLoading
from circuits.models.quantised import QuantisedLinear
from circuits.options.model import LoadOptions, ModelOptions
from circuits.options.run import RunOptions
from circuits.pipeline import load_recipe
from circuits.pipeline.context import RunContext
from circuits.pipeline.data import Data
from circuits.pipeline.store import Store

DISCOVER = ("discover", "--model", "newsroom-gpt2", "--task", "newsroom")


def test_discover_in_8_bits(tmp_path):
    out = tmp_path / "scores"
    done = circuits(
        *DISCOVER, "--n", 2, "--device", "cpu", "--quantize", "int8", "--out", out, "--quiet"
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "weights are quantised" in line]
    assert line.startswith("newsroom-gpt2: its weights are quantised (bitsandbytes ")
    assert line.endswith(" int8)")
    made_with = EdgeScores.load(out).provenance.model
    assert made_with.quantisation.endswith("int8") and made_with.dtype == "float32"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--quantize", "int4"), "unknown quantize 'int4'; known: int8, nf4"),
        (("--device-map", "balanced"), "unknown device_map 'balanced'; known: auto"),
        (("--max-memory", "0=2GB"), "max_memory says how device_map auto is made; give that too"),
        (
            ("--device-map", "auto", "--max-memory", "0=2"),
            "max_memory '0=2': write device=size, as in 0=20GB,cpu=60GB",
        ),
        (
            ("--device-map", "auto", "--device", "cpu"),
            "device cpu and a device map are given; leave one of them out",
        ),
        (("--compare-precision",), "--compare-precision goes with --quantize int8 or nf4"),
    ],
)
def test_what_does_not_go_together(given, message, tmp_path, monkeypatch):
    monkeypatch.setattr("circuits.cli.options.load_hooked", None)  # no model is loaded
    refused(circuits(*DISCOVER, *given, "--out", tmp_path), message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["finetune", "lora"])
def test_what_trains_has_no_such_flags(verb):
    done = circuits(verb, "--quantize", "int8")
    assert done.returncode == 2 and "No such option: --quantize" in done.stderr


@pytest.mark.parametrize(
    ("kind", "asked", "compared"),
    [("nf4", None, 1), ("nf4", False, 0), ("int8", None, 0), ("int8", True, 1)],
)
def test_4_bits_are_compared_unless_told(
    kind, asked, compared, hooked, random_pairs, monkeypatch, capsys, model_folder
):
    model = HookedModel.from_pretrained(
        model_folder("llama"), device="cpu", weights=WeightLoading(kind)
    )
    loaded = []

    def plain(source, options):
        loaded.append(options)
        return hooked("llama")

    monkeypatch.setattr(precision, "load_hooked", plain)
    precision.say_precision(
        model,
        ModelOptions(model="m", dtype="bfloat16", quantize=kind),
        random_pairs(n=2),
        method("exact"),
        asked,
        metric=None,
        options=RunOptions(),
    )
    said = capsys.readouterr().out
    assert loaded == [ModelOptions(model="m", dtype="bfloat16")] * compared
    assert said.count("the unquantised model's: rank correlation") == compared
    assert said.count("circuits of 4 bits are circuits of another model") == (kind == "nf4")


def test_nothing_is_said_of_plain_weights(hooked, random_pairs, capsys):
    plain = ModelOptions(model="m")
    precision.say_precision(
        hooked("llama"),
        plain,
        random_pairs(n=1),
        method("eap"),
        None,
        metric=None,
        options=RunOptions(),
    )
    assert capsys.readouterr().out == ""


def test_a_recipe_loads_what_it_names(tmp_path):
    one_model = ["finetune=null", "lora=null"]
    plain = load_recipe("quickstart", one_model)
    eight = load_recipe("quickstart", [*one_model, "quantize=int8"])
    with Store.open(tmp_path / "run", eight) as store:
        model = RunContext(eight, store, Data(eight, store), False).model("base").hf
    assert sum(isinstance(one, QuantisedLinear) for one in model.modules()) == 16
    with Store.open(tmp_path / "plain", plain):
        pass
    with (
        pytest.raises(CircuitsError, match="quantize was None, now int8"),
        Store.open(tmp_path / "plain", eight),
    ):
        pass


def test_a_recipe_spreads_a_model_as_it_is_told():
    with pytest.raises(CircuitsError, match="device cpu and a device map are given"):
        load_recipe("quickstart", ["device_map=auto"])
    spread = load_recipe(
        "quickstart", ["device=null", "device_map=auto", "max_memory=0=2GB,cpu=1.5GiB"]
    )
    assert WeightLoading.of(spread) == WeightLoading(None, "auto", {"0": "2GB", "cpu": "1.5GiB"})
    assert WeightLoading.of(LoadOptions()) == WeightLoading()
