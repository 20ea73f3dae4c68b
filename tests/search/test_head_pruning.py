"""Head pruning against a plain search with hooks written out by hand."""

import math

import pytest
import torch
from unknown_keys import refused

from circuits.errors import CircuitsError
from circuits.metrics import METRICS
from circuits.options.run import RunOptions
from circuits.search import HeadPruning, HeadPruningConfig, prune_heads

OUTPUTS = {
    "gpt2": {f"a{n}": f"transformer.h.{n}.attn.c_proj" for n in range(3)},
    "llama": {f"a{n}": f"model.layers.{n}.self_attn.o_proj" for n in range(3)},
    "t5": {f"enc.a{n}": f"encoder.block.{n}.layer.0.SelfAttention.o" for n in range(2)}
    | {
        f"{kind}{n}": f"decoder.block.{n}.layer.{place}.o"
        for n in range(3)
        for kind, place in (("a", "0.SelfAttention"), ("x", "1.EncDecAttention"))
    },
    "bart": {f"enc.a{n}": f"model.encoder.layers.{n}.self_attn.out_proj" for n in range(2)}
    | {
        f"{kind}{n}": f"model.decoder.layers.{n}.{place}.out_proj"
        for n in range(2)
        for kind, place in (("a", "self_attn"), ("x", "encoder_attn"))
    },
}


def run(hf, batch):
    """Logits at the reads of a batch of one, whose prompt ends at its first read."""
    if not hf.config.is_encoder_decoder:
        return hf(input_ids=batch.clean, use_cache=False).logits[
            batch.example_index, batch.position
        ]
    prompt = int(batch.position[0]) + 1
    start = torch.tensor([[hf.config.decoder_start_token_id]])
    fed = torch.cat([start, batch.clean[:, prompt:]], dim=1)
    return hf(input_ids=batch.clean[:, :prompt], decoder_input_ids=fed, use_cache=False).logits[0]


def plain(hf, name, pairs, off, metric, means=None):
    """Each example's metric, one run an example; off: {(attention, head)}, by name and number."""
    values = []
    for place in range(len(pairs)):
        batch = pairs.batch([place])
        handles = []
        for layer in {layer for layer, _ in off}:

            def edit(_, args, layer=layer):
                z = args[0].clone().unflatten(-1, (4, -1))
                for head in range(4):
                    if (layer, head) in off:
                        z[:, :, head] = 0 if means is None else means[layer][head]
                return (z.flatten(-2),)

            module = hf.get_submodule(OUTPUTS[name][layer])
            handles.append(module.register_forward_pre_hook(edit))
        with torch.no_grad():
            logits = run(hf, batch)
        for handle in handles:
            handle.remove()
        values.append(float(METRICS[metric](logits, batch)[0]))
    return values


def mean_z(hf, name, pairs):
    """Each attention's mean z over every position of the clean prompts."""
    seen = {layer: [] for layer in OUTPUTS[name]}
    handles = [
        hf.get_submodule(module).register_forward_pre_hook(
            lambda _, args, layer=layer: seen[layer].append(args[0][0].unflatten(-1, (4, -1)))
        )
        for layer, module in OUTPUTS[name].items()
    ]
    for place in range(len(pairs)):
        with torch.no_grad():
            run(hf, pairs.batch([place]))
    for handle in handles:
        handle.remove()
    return {layer: torch.cat(each).mean(dim=0) for layer, each in seen.items()}


@pytest.mark.parametrize(
    ("name", "metric", "ablation", "max_drop"),
    [
        ("gpt2", "answer-log-probability", "zero", 0.02),
        ("llama", "logit-difference", "mean", 0.2),
        ("llama", "logit-difference", "zero", 0.05),
        ("t5", "logit-difference", "zero", 0.02),
        ("t5", "logit-difference", "mean", 0.02),
        ("bart", "logit-difference", "mean", 0.1),
    ],
)
@pytest.mark.exhaustive_but("llama-*", "bart-*", "gpt2-*")
def test_equals_a_plain_search(name, metric, ablation, max_drop, hooked, random_pairs):
    model = hooked(name)
    pairs = random_pairs(n=4, lengths=[9, 6, 8, 9], answers=2, seed=7)
    means = mean_z(model.hf, name, pairs) if ablation == "mean" else None

    def measure(off):
        values = plain(model.hf, name, pairs, off, metric, means)
        return sum(values) / len(values)

    off, baselines, trace = set(), [], []
    for layer in OUTPUTS[name]:
        baseline = measure(off)
        baselines.append(baseline)
        for head in range(4):
            after = measure(off | {(layer, head)})
            kept = after < baseline - max_drop * abs(baseline)
            trace.append((f"{layer}.h{head}", after, kept))
            if not kept:
                off.add((layer, head))
    assert 0 < len(off) < len(trace)
    options = RunOptions(batch_size=3)
    found = prune_heads(
        model, pairs, HeadPruningConfig(max_drop, ablation), metric=metric, options=options
    )
    assert [(step.name, step.kept) for step in found.history] == [(n, k) for n, _, k in trace]
    for step, (_, after, _) in zip(found.history, trace, strict=True):
        assert step.after == pytest.approx(after, abs=1e-4)
    assert found.baselines == pytest.approx(baselines, abs=1e-4)
    assert found.metric_model == pytest.approx(measure(set()), abs=1e-4)
    assert found.metric_pruned == pytest.approx(measure(off), abs=1e-4)
    assert len(set(baselines)) > 1
    kept = {(layer, head) for layer in OUTPUTS[name] for head in range(4)} - off
    rows = zip(OUTPUTS[name], found.kept, strict=True)
    assert {(layer, head) for layer, heads in rows for head in heads} == kept
    assert set(found.heads) == {f"{layer}.h{head}" for layer, head in kept}


def test_evaluated_on_other_examples_with_paired_intervals(hooked, random_pairs, tmp_path):
    model, pairs, others = hooked("llama"), random_pairs(n=4, seed=7), random_pairs(n=30, seed=8)
    found = prune_heads(
        model,
        pairs,
        HeadPruningConfig(0.2),
        evaluate_on=others,
        evaluate_by=["accuracy", "kl-divergence"],
    )
    off = {(layer, head) for layer in OUTPUTS["llama"] for head in range(4)}
    off -= {(f"a{layer}", head) for layer, heads in enumerate(found.kept) for head in heads}
    assert off
    whole = plain(model.hf, "llama", others, set(), "logit-difference")
    pruned = plain(model.hf, "llama", others, off, "logit-difference")
    assert found.evaluation is not None
    assert (found.evaluation.data.n, found.evaluation.searched_on) == (30, 0)
    metrics = found.evaluation.metrics
    assert set(metrics) == {"logit-difference", "accuracy", "kl-divergence"}
    figures = metrics["logit-difference"]
    assert figures.model.n == 30
    assert figures.model.value == pytest.approx(sum(whole) / 30, abs=1e-4)
    assert figures.pruned.value == pytest.approx(sum(pruned) / 30, abs=1e-4)
    assert figures.drop.value == pytest.approx(figures.model.value - figures.pruned.value)
    for estimate in (figures.model, figures.pruned, figures.drop):
        assert estimate.low < estimate.value < estimate.high
    assert metrics["kl-divergence"].model.value == pytest.approx(0, abs=1e-6)
    assert metrics["kl-divergence"].pruned.value < -1e-3
    assert HeadPruning.load(found.save(tmp_path / "search.json")) == found
    (tmp_path / "bad.json").write_text('{"kind": "head-pruning", "schema_version": 1, "kept": 3}')
    with pytest.raises(CircuitsError, match=r"bad\.json: kept: "):
        HeadPruning.load(tmp_path / "bad.json")
    places = {(): "neurons", ("evaluation", "metrics", "accuracy"): "weights"}
    refused(HeadPruning.load, tmp_path / "search.json", places)


def test_one_example_has_no_interval(hooked, random_pairs):
    model, other = hooked("llama"), random_pairs(n=1, seed=8)
    found = prune_heads(
        model, random_pairs(n=2, seed=7), HeadPruningConfig(0.2), evaluate_on=other
    ).evaluation
    (figures,) = found.metrics.values()
    assert math.isfinite(figures.drop.value) and math.isnan(figures.drop.low)
    assert figures.drop.n == 1


def test_layers_below_are_not_run_again_and_the_model_is_left_as_it_was(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=2, seed=7)
    runs = []
    handles = [
        block.mlp.register_forward_hook(lambda *_, index=index: runs.append(index))
        for index, block in enumerate(model.hf.transformer.h)
    ]
    prune_heads(model, pairs, HeadPruningConfig(0.0))
    for handle in handles:
        handle.remove()
    assert runs.count(0) < runs.count(1) < runs.count(2)
    assert all("forward" not in vars(module) for module in model.hf.modules())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_drop": 1.0}, "at least 0 and below 1"),
        ({"max_drop": -0.1}, "at least 0 and below 1"),
        ({"max_drop": 0.1, "metric": "kl-divergence"}, "is 0 for the whole model"),
    ],
)
def test_bad_settings_are_refused(given, message, hooked, random_pairs):
    with pytest.raises(CircuitsError, match=message):
        drop = HeadPruningConfig(given.pop("max_drop"))
        prune_heads(hooked("gpt2"), random_pairs(n=1), drop, **given)
