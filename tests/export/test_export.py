"""An exported model gives the executor's logits, without the executor."""

from __future__ import annotations

import pytest
import torch
from cli.inside import circuits as run
from transformers import AutoModelForCausalLM

from circuits.errors import CircuitsError, UnsupportedError
from circuits.export import AblatedModel, ablated_model, export_ablated
from circuits.graph import Circuit, NodeCircuit, Units
from circuits.inspection import inspect
from circuits.intervention import CircuitRunner, MeanActivations, constants
from circuits.models import HookedModel

DECODERS = ["gpt2", "llama", "qwen3", "phi3", "gpt-neox", "gptj", "opt", "bloom"]
WITH_BIAS = ["gpt2", "gpt-neox", "opt", "bloom"]


def some_nodes(layout):
    """Half of the heads and MLPs: in each layer some of either."""
    inner = [name for name in layout.sources if name not in ("input", "bias")]
    return NodeCircuit.of(layout, ["input", *inner[::2]])


def some_neurons(model):
    units = Units(model.layout, model.view.widths)
    mask = torch.rand(len(units), generator=torch.Generator().manual_seed(0)) < 0.6
    return NodeCircuit(units, mask | units.roots)


def both(model, circuit, means, pairs):
    """Logits of the exported model and of the executor."""
    batch = pairs.batch(list(range(len(pairs))))
    exported = HookedModel(ablated_model(model, circuit, means), None, "exported")
    runner = CircuitRunner(model, batch, constants(means or "zero", model, pairs))
    with torch.no_grad():
        return exported.logits(batch.clean, batch), runner.logits(circuit), runner.clean


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.exhaustive_but("gpt2", "llama")
def test_zero_ablation_in_the_weights_is_the_executors(name, hooked, random_pairs):
    model = hooked(name)
    pairs = random_pairs()
    before = model.fingerprint
    for circuit in (some_nodes(model.layout), some_neurons(model)):
        got, wanted, whole = both(model, circuit, None, pairs)
        assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
        assert (whole - wanted).abs().max() > 1e-2 * wanted.abs().max(), "the circuit matters"
    assert model.fingerprint == before


@pytest.mark.parametrize("name", WITH_BIAS)
@pytest.mark.exhaustive_but("gpt2")
def test_means_go_into_biases(name, hooked, random_pairs):
    model = hooked(name)
    pairs = random_pairs()
    means = MeanActivations.of(model, pairs, neurons=True)
    for circuit in (some_nodes(model.layout), some_neurons(model)):
        got, wanted, whole = both(model, circuit, means, pairs)
        zero, *_ = both(model, circuit, None, pairs)
        assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
        assert (zero - wanted).abs().max() > 1e-3 * wanted.abs().max(), "the means matter"
        assert (whole - wanted).abs().max() > 1e-2 * wanted.abs().max()


def test_what_no_weights_can_say_is_refused(hooked, random_pairs):
    gpt2, llama, gemma = hooked("gpt2"), hooked("llama"), hooked("gemma2")
    edges = Circuit.of(gpt2.layout, ["input->m0"])
    with pytest.raises(CircuitsError, match="a circuit of edges cannot be written into weights"):
        ablated_model(gpt2, edges)
    with pytest.raises(CircuitsError, match="leaves out the input"):
        ablated_model(gpt2, NodeCircuit.of(gpt2.layout, ["m0"]))
    with pytest.raises(CircuitsError, match="a circuit of a model with"):
        ablated_model(gpt2, some_nodes(llama.layout))
    means = MeanActivations.of(llama, random_pairs())
    with pytest.raises(UnsupportedError, match="have no bias that could hold a mean"):
        ablated_model(llama, some_nodes(llama.layout), means)
    with pytest.raises(UnsupportedError, match="a norm follows the heads"):
        ablated_model(gemma, some_nodes(gemma.layout))
    by_position = MeanActivations.of(gpt2, random_pairs(), "mean-positional")
    with pytest.raises(CircuitsError, match="weights know no positions"):
        ablated_model(gpt2, some_nodes(gpt2.layout), by_position)
    whole = MeanActivations.of(gpt2, random_pairs())
    with pytest.raises(CircuitsError, match="these means are of whole MLPs"):
        ablated_model(gpt2, some_neurons(gpt2), whole)


def test_the_verb_writes_a_folder_that_transformers_reads(tmp_path):
    model = HookedModel.from_pretrained("newsroom-gpt2")
    circuit = some_nodes(model.layout)
    circuit.save(tmp_path / "circuit.json")
    arguments = (
        *("export", "--model", "newsroom-gpt2", "--task", "newsroom", "--n", 3, "--device", "cpu"),
        *("--circuit", tmp_path / "circuit.json", "--ablation", "mean", "--out", tmp_path / "out"),
    )
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    record = AblatedModel.load(tmp_path / "out" / "ablated_model.json")
    assert record.difference <= 1e-5 and record.n_checked == 3 and record.ablation == "mean"
    assert f"{len(circuit)} of {len(circuit.candidates)} nodes kept" in done.stdout
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = model.tokenizer("The mayor resigned", return_tensors="pt").input_ids
    again = HookedModel.from_pretrained(tmp_path / "out")
    assert torch.equal(plain(ids).logits, again.hf(ids).logits)
    assert not torch.allclose(plain(ids).logits, model.hf(ids).logits, atol=1e-2)
    found = inspect(tmp_path / "out")
    assert found.what == "a model on a circuit, as Hugging Face keeps models"
    assert found.facts["kept"].startswith(f"{len(circuit)} of ")
    assert run(*arguments).returncode == 0, "an exported model is replaced"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    refused = run(*arguments[:-1], tmp_path / "mine")
    assert refused.returncode == 2 and "is no exported model" in refused.stderr


def test_logits_that_differ_are_not_written(tmp_path, hooked, random_pairs, monkeypatch):
    model = hooked("gpt2")
    monkeypatch.setattr("circuits.export.folder.CLOSE", -1.0)
    with pytest.raises(CircuitsError, match="it is not written"):
        export_ablated(model, some_nodes(model.layout), tmp_path / "out", random_pairs())
    assert not (tmp_path / "out").exists()
