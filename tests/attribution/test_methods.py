"""Every method against an oracle that knows nothing of the package."""

import pytest
import torch
from conftest import make_model
from oracles.split_paths import SplitPaths

import circuits
from circuits.attribution import METHODS
from circuits.attribution.quadrature import rule
from circuits.errors import CircuitsError
from circuits.metrics import METRICS
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from tasks.pairs import PairSet

TOLERANCE = 1e-5  # of the largest score
ARCHITECTURES = ["gpt2", "llama"]  # biases and equal heads; neither, and grouped heads


def close(found, expected, tolerance=TOLERANCE):
    largest = float(expected.abs().max())
    assert largest > 1e-3, "the reference is all but zero; the comparison says nothing"
    assert float((found - expected).abs().max()) <= tolerance * largest


def oracle(model):
    return SplitPaths(model.hf, model.layout.n_heads, model.layout.n_kv_heads, model.view.d_head)


def singles(pairs):
    return [pairs.batch([place]) for place in range(len(pairs))]


def value_of(batch, metric="logit-difference"):
    return lambda logits: METRICS[metric](logits[0, batch.position], batch).sum()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_clean_corrupted_is_the_mean_of_both_ends(name, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=2)
    found = circuits.attribute(model, pairs, "clean-corrupted", per_example=True)
    paths = oracle(model)
    expected = torch.stack(
        [
            paths.scores(batch.clean, batch.corrupted, value_of(batch), [0.0, 1.0], [0.5, 0.5])
            for batch in singles(pairs)
        ]
    )
    close(found.per_example, expected)
    clean_end = circuits.attribute(model, pairs, "eap", per_example=True).per_example
    assert (found.per_example - clean_end).abs().max() > 1e-2


def activations_oracle(model, batch, points, own):
    """Every group of sources moved by hooks on the plain model, in front of the oracle's own."""
    paths, value = oracle(model), value_of(batch)
    with torch.no_grad():
        _, clean = paths.run(batch.clean)
        _, corrupted = paths.run(batch.corrupted)
    delta = [a - b for a, b in zip(clean, corrupted, strict=True)]
    heads, total = paths.h, torch.zeros(paths.n_sources, paths.n_readers)
    groups = [(range(1), None)]
    for layer in paths.layers:
        first = groups[-1][0].stop
        out = layer.get_submodule(paths.names.out)
        groups += [
            (range(first, first + heads), out),
            (range(first + heads, first + heads + 1), layer.mlp),
        ]
    for rows, module in groups:
        found = torch.zeros_like(total)
        for node, weight in zip(points.nodes, points.weights, strict=True):
            line = sum(corrupted[row] + node * delta[row] for row in rows)
            bias = getattr(module, "bias", None) if len(rows) == heads else None
            line = line if bias is None else line + bias
            start = line if module is None else clean[0]
            handle = module and module.register_forward_hook(lambda *_, line=line: line)
            offsets = {}

            def offset(reader, _, offsets=offsets):
                offsets[reader] = torch.zeros_like(delta[0]).requires_grad_()
                return offsets[reader]

            logits, _ = paths.run(batch.clean, offset, start)
            if handle is not None:
                handle.remove()
            readers = sorted(offsets)
            inputs = [offsets[reader] for reader in readers]
            # The module that was moved leaves its own readers without any gradient.
            gradients = torch.autograd.grad(value(logits), inputs, allow_unused=True)
            for reader, gradient in zip(readers, gradients, strict=True):
                for source in range(paths.sources_before(reader) if gradient is not None else 0):
                    found[source, reader] += weight * (delta[source] * gradient).sum()
        if own:
            total[list(rows)] = found[list(rows)]
        else:
            total += found / len(groups)
    return total


@pytest.mark.parametrize("gradients", ["all", "own"])
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.exhaustive_but("gpt2-own", "llama-all")
def test_activations_move_group_by_group(name, gradients, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=2)
    found = circuits.attribute(
        model,
        pairs,
        "eap-ig-activations",
        steps=2,
        quadrature="right",
        gradients=gradients,
        per_example=True,
    )
    expected = torch.stack(
        [
            activations_oracle(model, batch, rule("right", 2), gradients == "own")
            for batch in singles(pairs)
        ]
    )
    close(found.per_example, expected)
    assert found.provenance.error is None


@pytest.mark.parametrize("name", ["gemma2", "gpt-neox", "t5", "bart"])
@pytest.mark.exhaustive_but("gemma2", "bart")
def test_activations_of_an_input_alone_are_those_of_the_path(name, hooked, random_pairs):
    """Edges out of the embedding, by its own points, are EAP-IG's; on other architectures too."""
    model, pairs = hooked(name), random_pairs(n=2)
    settings = {"steps": 2, "per_example": True}
    own = circuits.attribute(model, pairs, "eap-ig-activations", gradients="own", **settings)
    path = circuits.attribute(model, pairs, "eap-ig", **settings)
    inputs = [row for row, node in enumerate(model.layout.source_nodes) if node.kind == "input"]
    close(own.per_example[:, inputs], path.per_example[:, inputs])
    assert not torch.allclose(own.matrix, path.matrix, atol=1e-2)


@pytest.mark.parametrize(("name", "metric"), [("gpt2", "logit-difference"), ("llama", "accuracy")])
@pytest.mark.exhaustive_but("llama-*")
def test_exact_corrupts_every_edge_alone(name, metric, hooked, random_pairs):
    """Every 7th edge, since the oracle is slow; accuracy, to show that no gradient is needed."""
    model, pairs = hooked(name), random_pairs(n=2, answers=3, length=7)
    if metric == "accuracy":  # answers that the model gives, or nothing could fall
        pairs = with_the_models_answers(model, pairs)
    found = circuits.attribute(model, pairs, "exact", metric=metric, per_example=True)
    paths, mask = oracle(model), model.layout.mask
    assert not found.matrix[~mask].any()
    checked = mask.nonzero()[::7].tolist()
    expected = torch.zeros(len(pairs), len(checked))
    for place, batch in enumerate(singles(pairs)):
        value = value_of(batch, metric)
        whole = value(model.hf(input_ids=batch.clean).logits)
        for number, (row, column) in enumerate(checked):
            keep = mask.clone()
            keep[row, column] = False
            expected[place, number] = whole - value(
                paths.execute(batch.clean, batch.corrupted, keep)
            )
    rows, columns = zip(*checked, strict=True)
    # Small differences of large logits: float32 rounds them to a few 1e-6.
    close(found.per_example[:, rows, columns], expected, 3e-5)
    assert found.provenance.metric_clean != found.provenance.metric_corrupted


def with_the_models_answers(model, pairs):
    made = []
    for pair, batch in zip(pairs, singles(pairs), strict=True):
        likely = model.logits(batch.clean, batch).argmax(dim=-1).tolist()
        made.append(type(pair)(pair.clean, pair.corrupted, ((likely[0],),), source=pair.source))
    return PairSet(tuple(made), metric="accuracy")


def test_exact_is_what_eap_estimates(hooked, random_pairs):
    """A corruption too small to matter: the first order is all there is."""
    model, pairs = hooked("gpt2"), random_pairs(n=2)
    embedding = model.hf.get_input_embeddings().weight
    before = embedding.clone()
    pair = pairs[0]
    changed = [i for i, (a, b) in enumerate(zip(pair.clean, pair.corrupted, strict=True)) if a != b]
    clean, corrupted = pair.clean[changed[0]], pair.corrupted[changed[0]]
    near = type(pair)(
        pair.clean,
        (*pair.clean[: changed[0]], corrupted, *pair.clean[changed[0] + 1 :]),
        pair.answer,
        pair.wrong,
    )
    try:
        with torch.no_grad():
            embedding[corrupted] = embedding[clean] + 0.01 * (before[corrupted] - before[clean])
        alone = PairSet((near,), metric="logit-difference")
        exact = circuits.attribute(model, alone, "exact").matrix
        estimate = circuits.attribute(model, alone, "eap").matrix
    finally:
        with torch.no_grad():
            embedding.copy_(before)
    assert float(exact.abs().max()) > 1e-4
    assert float((exact - estimate).abs().sum() / exact.abs().sum()) < 0.05


def test_exact_refuses_long_work_unless_forced(hooked, random_pairs, monkeypatch):
    model, pairs = hooked("gpt2-long"), random_pairs(n=2)
    edges = model.layout.n_edges
    monkeypatch.setattr("circuits.attribution.exact.LIMIT", edges)
    with pytest.raises(CircuitsError, match=f"{edges} edges on each of 2 examples, {2 * edges}"):
        circuits.attribute(model, pairs, "exact")
    assert circuits.attribute(model, pairs[:1], "exact").matrix.any()
    assert circuits.attribute(model, pairs, "exact", force=True).matrix.any()


def test_random_scores_depend_on_the_seed_alone(hooked, random_pairs):
    model = hooked("llama")
    first = circuits.attribute(model, random_pairs(n=2), "random", seed=3, per_example=True)
    again = circuits.attribute(model, random_pairs(n=3, seed=9), "random", seed=3, per_example=True)
    other = circuits.attribute(model, random_pairs(n=2), "random", seed=4)
    assert torch.equal(first.per_example[0], first.per_example[1])
    assert torch.equal(first.per_example[0], again.per_example[2])
    assert not torch.equal(first.matrix, other.matrix)
    inside = first.matrix[first.mask]
    assert not first.matrix[~first.mask].any() and (inside != 0).all()
    assert abs(float(inside.mean())) < 0.2 and float(inside.std()) == pytest.approx(1, abs=0.15)
    assert first.provenance.settings == {"seed": 3}
    assert first.provenance.metric_clean != first.provenance.metric_corrupted


def streams_of(model, tokens):
    """What each layer's attention, MLP and the final norm read, by hooks on the plain model."""
    names, read = oracle(model).names, []
    norms = [
        layer.get_submodule(norm)
        for layer in model.hf.get_submodule(names.layers)
        for norm in (names.norm1, names.norm2)
    ]
    handles = [
        module.register_forward_pre_hook(lambda _, args: read.append(args[0][0]))
        for module in (*norms, model.hf.get_submodule(names.final))
    ]
    model.hf(input_ids=tokens)
    for handle in handles:
        handle.remove()
    return read


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_information_flow_routes_edge_by_edge(name, hooked, random_pairs, monkeypatch):
    """Mixed lengths in one batch, one position at a time: padding and chunks play no part."""
    model, pairs = hooked(name), random_pairs(n=2, lengths=[6, 9])
    monkeypatch.setattr("circuits.attribution.information_flow.FLOW_CHUNK_BYTES", 1)
    found = circuits.attribute(
        model, pairs, "information-flow", options=RunOptions(2), per_example=True
    )
    paths, expected = oracle(model), torch.zeros(2, *model.layout.shape)
    for place, batch in enumerate(singles(pairs)):
        read = streams_of(model, batch.clean)
        _, sources = paths.run(batch.clean)
        positions = batch.clean.shape[1]
        for reader in range(paths.n_readers):
            layer, port = divmod(reader, paths.per_layer)
            last = port == paths.per_layer - 1
            x = read[-1] if reader == paths.n_readers - 1 else read[2 * layer + last]
            for position in range(positions):
                y = x[position]
                near = [
                    max(0.0, float(y.abs().sum() - (y - source[0, position]).abs().sum()))
                    for source in sources[: paths.sources_before(reader)]
                ]
                for row, value in enumerate(near):
                    expected[place, row, reader] += value / sum(near) / positions
    close(found.per_example, expected)
    assert found.matrix.min() == 0 and found.method == "information-flow"
    assert torch.allclose(found.matrix.sum(dim=0), torch.ones(model.layout.shape[1]), atol=1e-5)


def test_information_flow_knows_no_metric(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=2)
    one = circuits.attribute(model, pairs, "information-flow", metric="accuracy")
    other = circuits.attribute(model, pairs, "information-flow", metric="kl-divergence")
    assert torch.equal(one.matrix, other.matrix)
    assert one.provenance.metric == "accuracy"


KL = {"metric": "kl-divergence"}


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("clean-corrupted", {"metric": "accuracy"}, "accuracy has no gradient"),
        ("clean-corrupted", {"steps": 3}, "clean-corrupted does not take steps; it takes no set"),
        ("random", {"seed": -1}, "seed=-1"),
        ("eap-ig-activations", {"gradients": "some"}, "unknown gradients 'some'; known: all, own"),
        ("eap-ig-activations", {"metric": "accuracy"}, "accuracy has no gradient"),
        ("eap", KL, "kl-divergence is at its best on the clean run, .* eap would give"),
        ("eap-ig", {"steps": 1, "quadrature": "right", **KL}, "rounding noise; take eap-ig"),
        ("eap-ig-activations", {"steps": 1, "quadrature": "right", **KL}, "rounding noise"),
        ("exact", {"steps": 3}, "exact does not take steps; it takes force"),
    ],
)
def test_refusals(method, settings, message, hooked, random_pairs):
    with pytest.raises(CircuitsError, match=message):
        circuits.attribute(hooked("gpt2"), random_pairs(n=1), method, **settings)


@pytest.mark.parametrize("settings", [{}, {"steps": "auto"}, {"steps": 2, "quadrature": "right"}])
def test_a_divergence_is_scored_away_from_the_clean_run(settings, hooked, random_pairs):
    found = circuits.attribute(hooked("gpt2"), random_pairs(n=1), "eap-ig", **settings, **KL)
    assert float(found.matrix.abs().max()) > 1e-3
    with pytest.raises(CircuitsError, match="take eap-ig"):
        circuits.attribute_nodes(hooked("gpt2"), random_pairs(n=1), "eap", **KL)


# In float32 the model's own products round by the size of the batch; in float64 they do not.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-6)])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.exhaustive_but("eap*-dtype0-*", "clean*-dtype0-*")
def test_a_batch_is_its_examples(method, dtype, tolerance, random_pairs):
    model = HookedModel(make_model("llama").to(dtype), None, "llama")
    pairs = random_pairs(n=3, lengths=[9, 6, 9])
    alone = circuits.attribute(model, pairs, method, options=RunOptions(1), per_example=True)
    together = circuits.attribute(model, pairs, method, options=RunOptions(3), per_example=True)
    assert alone.method == method
    close(together.per_example, alone.per_example, tolerance)
    assert together.provenance.metric_clean == pytest.approx(
        alone.provenance.metric_clean, rel=tolerance
    )
