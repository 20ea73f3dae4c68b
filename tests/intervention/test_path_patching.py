"""Path patching against circuits of all edges but some, and a slow run with frozen heads."""

import pytest
import torch
from oracles.split_paths import SplitPaths
from transformer_lens import patching as slow

from circuits.errors import CircuitsError
from circuits.graph import Circuit
from circuits.intervention import CircuitRunner
from circuits.intervention.patching import path_patch
from circuits.metrics import METRICS

METRIC = "logit-difference"


def whole(pairs):
    return pairs.batch(list(range(len(pairs))))


def edges_of(model, every):
    rows = model.layout.mask.nonzero().tolist()[::every]
    return [model.layout.edge_name(*place) for place in rows]


@pytest.mark.parametrize("direction", ["noise", "denoise"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.exhaustive_but("gpt2-noise", "llama-denoise")
def test_single_edges_equal_both_slow_ways(name, direction, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=2)
    batch = whole(pairs)
    names = edges_of(model, 9)
    found = path_patch(model, pairs, names, direction=direction).values[METRIC]
    view = model.view
    oracle = SplitPaths(model.hf, view.layout.n_heads, view.layout.n_kv_heads, view.d_head)
    tokens = (batch.clean, batch.corrupted)
    base, donor = tokens if direction == "noise" else tokens[::-1]
    moved = 0
    for column, edge in enumerate(names):
        keep = model.layout.mask.clone()
        keep[model.layout.edge(edge)] = False
        logits = oracle.execute(base, donor, keep)[batch.example_index, batch.position]
        expected = METRICS[METRIC](logits, batch).double()
        assert torch.allclose(found[:, column], expected, atol=1e-5 * float(logits.abs().max()))
        whole_run = model.logits(base, batch)
        moved += bool((logits - whole_run).abs().max() > 1e-3)
        if direction == "noise" and column % 5 == 0:
            executed = CircuitRunner(model, batch).logits(Circuit(model.layout, keep))
            other = METRICS[METRIC](executed, batch).double()
            assert torch.allclose(found[:, column], other, atol=1e-5 * float(logits.abs().max()))
    assert moved > 10


def test_heads_into_later_queries_equal_transformer_lens(hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=1)
    batch, judge = whole(pairs), METRICS[METRIC]
    expected = slow.get_act_patch_direct_path(
        model.bridge,
        batch.corrupted,
        model.bridge.run_with_cache(batch.clean)[1],
        model.bridge.run_with_cache(batch.corrupted)[1],
        lambda logits: judge(logits[batch.example_index, batch.position], batch).mean(),
        src_layer=0,
        src_head=2,
        verbose=False,
    )
    names = [f"a0.h2->a{layer}.h{head}<q>" for layer in (1, 2) for head in range(4)]
    found = path_patch(model, pairs, names, direction="denoise").mean()
    assert float(expected[1:].std()) > 1e-4
    assert torch.allclose(found.float(), expected[1:].flatten(), atol=3e-5)


class Wang:
    """The four steps of Wang et al. 2022, by writing whole tensors into the Hugging Face modules.

    Heads are frozen, MLPs are live. A sender or receiver is (layer, head); a receiver's port q.
    """

    def __init__(self, model, batch):
        self.model, self.batch = model, batch
        self.layers, self.d = model.view.layers, model.view.d_head
        self.clean, self.corrupted = self.keep(batch.clean), self.keep(batch.corrupted)

    def keep(self, tokens, edits=()):
        """z and q of every layer, and the logits."""
        z, q, handles = {}, {}, []
        for index, block in enumerate(self.model.hf.model.layers):
            attention = block.self_attn

            def before(_, args, index=index):
                new = args[0].clone()
                for (kind, layer, head), value in edits:
                    if (kind, layer) == ("z", index):
                        new[..., head * self.d : (head + 1) * self.d] = value
                z[index] = new
                return (new,)

            def after(_, __, output, index=index):
                new = output.clone()
                for (kind, layer, head), value in edits:
                    if (kind, layer) == ("q", index):
                        new[..., head * self.d : (head + 1) * self.d] = value
                q[index] = new
                return new

            handles.append(attention.o_proj.register_forward_pre_hook(before))
            handles.append(attention.q_proj.register_forward_hook(after))
        try:
            logits = self.model.logits(tokens, self.batch)
        finally:
            for handle in handles:
                handle.remove()
        return z, q, logits

    def part(self, values, layer, head):
        return values[layer][..., head * self.d : (head + 1) * self.d]

    def effect(self, sender, receivers):
        frozen = [
            (("z", layer, head), self.part(source[0], layer, head))
            for layer in range(3)
            for head in range(4)
            for source in [self.corrupted if (layer, head) == sender else self.clean]
        ]
        _, q, _ = self.keep(self.batch.clean, frozen)
        given = [(("q", *receiver), self.part(q, *receiver)) for receiver in receivers]
        return self.keep(self.batch.clean, given)[2]


def test_live_mlps_equal_the_four_steps_of_wang_et_al(hooked, random_pairs):
    """Receivers in different layers, one of which feeds the other."""
    model, pairs = hooked("llama"), random_pairs(n=2)
    batch = whole(pairs)
    wang = Wang(model, batch)
    paths = {
        "a0.h1->a1.h2<q>": [(1, 2)],
        "a0.h1->a2.h0<q>": [(2, 0)],
        "a0.h1->a1.h2<q>+a0.h1->a2.h0<q>+a0.h1->a2.h3<q>": [(1, 2), (2, 0), (2, 3)],
    }
    live = path_patch(model, pairs, list(paths), freeze_mlps=False)
    frozen = path_patch(model, pairs, list(paths))
    for column, receivers in enumerate(paths.values()):
        logits = wang.effect((0, 1), receivers)
        expected = METRICS[METRIC](logits, batch).double()
        assert torch.allclose(live.values[METRIC][:, column], expected, atol=1e-5)
    assert float((live.values[METRIC] - live.clean[METRIC][:, None]).abs().min()) > 1e-4
    assert float((live.values[METRIC] - frozen.values[METRIC]).abs().min()) > 1e-4


def test_receivers_of_several_senders_each_get_their_own(hooked, random_pairs):
    """In one layer no receiver feeds another, so that a circuit says the same."""
    model, pairs = hooked("gpt2"), random_pairs(n=2)
    batch = whole(pairs)
    edges = ["input->m1", "m0->m1", "a0.h1->m1"], ["m0->a1.h0<k>", "a0.h3->a1.h0<v>"]
    found = path_patch(model, pairs, [edges[0], "+".join(edges[1]), ["m2->logits", "m1->logits"]])
    assert found.axes[0].labels[:2] == (
        "input->m1+m0->m1+a0.h1->m1",
        "m0->a1.h0<k>+a0.h3->a1.h0<v>",
    )
    executor = CircuitRunner(model, batch)
    for column, path in enumerate([*edges, ["m2->logits", "m1->logits"]]):
        keep = model.layout.mask.clone()
        for edge in path:
            keep[model.layout.edge(edge)] = False
        logits = executor.logits(Circuit(model.layout, keep))
        expected = METRICS[METRIC](logits, batch).double()
        assert torch.allclose(found.values[METRIC][:, column], expected, atol=1e-5)
        assert float((logits - executor.clean).abs().max()) > 1e-2


def test_all_edges_into_the_logits_are_the_other_run(hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=2)
    every = [f"{source}->logits" for source in model.layout.sources]
    for direction in ("noise", "denoise"):
        found = path_patch(model, pairs, [every], direction=direction)
        donor = found.corrupted if direction == "noise" else found.clean
        assert torch.allclose(found.values[METRIC][:, 0], donor[METRIC], atol=1e-5)
        assert torch.allclose(
            found.recovery().value,
            torch.tensor([0.0 if direction == "noise" else 1.0]).double(),
            atol=1e-4,
        )


def test_padding_changes_nothing(hooked, random_pairs):
    model = hooked("llama")
    pairs = random_pairs(n=3, lengths=[12, 7, 9], answers=2)
    names = ["a0.h1->a1.h2<q>", "m0->a2.kv1<v>", "input->logits"]
    together = path_patch(model, pairs, names).values[METRIC]
    for place in range(3):
        alone = path_patch(model, pairs[place : place + 1], names).values[METRIC]
        assert torch.allclose(together[place], alone[0], atol=2e-5)
    assert float(together.std()) > 1e-2


@pytest.mark.parametrize(
    ("paths", "options", "message"),
    [
        ([], {}, "no path was given"),
        (["a0.h0->a0.h1<q>"], {}, "a0.h0 is computed after a0.h1<q> reads"),
        (["a0.h0->a1.h1<k>"], {}, r"no reader 'a1.h1<k>' in this model \(3 layers, 4 heads, 2 KV"),
        (["m0->logits"], {"metrics": "luck"}, "unknown metric 'luck'"),
    ],
)
def test_what_cannot_be_is_refused(paths, options, message, hooked, random_pairs):
    with pytest.raises(CircuitsError, match=message):
        path_patch(hooked("llama"), random_pairs(n=1), paths, **options)
