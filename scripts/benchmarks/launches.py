"""How many operations an accelerator is given: what small models on a fast GPU are bound by.

    python scripts/benchmarks/launches.py [--lines circuits patching] [--kinds 8]
    python scripts/benchmarks/launches.py --device cuda

GPT-2-small shape with random weights, float32, 2 x 128 tokens. Without a GPU the model is put on
the pretended accelerator of `tests/elsewhere.py`, which computes on the CPU and tells its tensors
from the host's, so that the counts are those of a GPU. Each line: `launches` (operations that write
something; views and empty memory are none), `waits` (moments at which the host waits for a result),
`sent` (tensors that go from the host to the accelerator), and `of_plain`, launches over those of
one plain forward pass of the same prompts.

circuits  one plain forward pass, and `CircuitRunner.logits` of random edges by their share.
nodes     half of the nodes, and half of the neurons.
patching  layer x position on 2 pairs of 16 tokens, and `passes`, how often the model ran.
search    8 circuits side by side, each without one edge of its own.
eap-ig    5 steps beside their floor (see `attribution.py`); `of_floor` is the ratio of launches.

One JSON line each.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from attribution import STEPS, engine, floor, pairs
from evaluation import plain, random_circuit
from gpu import SHARES
from transformers import GPT2Config, GPT2LMHeadModel

from circuits.graph import NodeCircuit, Units
from circuits.intervention import CircuitRunner
from circuits.intervention.batched_runner import BatchedCircuitRunner
from circuits.intervention.patching import PatchSpec, patch
from circuits.models import HookedModel
from tasks.pairs import PairBatch, PairSet, PromptPair

COPIES, PATCHED = 8, 16

Work = Callable[[], object]


def circuits_line(model: HookedModel, batch: PairBatch) -> Iterator[tuple[str, Work]]:
    """Random edges, by their share of all."""
    runner = CircuitRunner(model, batch)
    for share in SHARES:
        circuit = random_circuit(model.layout, share)
        yield f"circuit, {share:.1%} of the edges", partial(runner.logits, circuit)


def nodes_line(model: HookedModel, batch: PairBatch) -> Iterator[tuple[str, Work]]:
    """Half of the nodes and of the neurons; the neurons' reference run is not counted."""
    runner = CircuitRunner(model, batch)
    for units in (Units.of_nodes(model.layout), Units(model.layout, model.view.widths)):
        half = torch.rand(len(units), generator=torch.Generator().manual_seed(0)) < 0.5
        circuit = NodeCircuit(units, half | units.roots)
        runner.logits(circuit)
        yield f"circuit, half of the {units.level}s", partial(runner.logits, circuit)


def patching_line(model: HookedModel, _: PairBatch) -> Iterator[tuple[str, Work]]:
    """A sweep over the residual stream on prompts that differ everywhere."""
    draw = torch.Generator().manual_seed(0)
    clean, corrupted = torch.randint(25_000, (2, 2, PATCHED), generator=draw)
    prompts = zip(clean.tolist(), (corrupted + 25_000).tolist(), strict=True)
    prompt_pairs = tuple(PromptPair(tuple(a), tuple(b), ((1,),), ((2,),)) for a, b in prompts)
    assert model.fingerprint  # taken once a model, and not counted
    pair_set = PairSet(prompt_pairs, metric="logit-difference")
    yield "patching, layer x position", partial(patch, model, pair_set, PatchSpec())


def search_line(model: HookedModel, _: PairBatch) -> Iterator[tuple[str, Work]]:
    """What a trial of ACDC is: circuits that lack a few edges, side by side."""
    batch_of_one = pairs(1, PATCHED, 0, model.device)
    runner = BatchedCircuitRunner(model, batch_of_one)
    kept_edges = model.layout.mask.repeat(COPIES, 1, 1)
    edges = model.layout.mask.nonzero().tolist()
    for copy, (row, column) in enumerate(edges[:: len(edges) // COPIES][:COPIES]):
        kept_edges[copy, row, column] = False
    yield f"search, {COPIES} circuits", partial(runner.logits, kept_edges)


def scores_line(model: HookedModel, batch: PairBatch) -> Iterator[tuple[str, Work]]:
    """The floor first."""
    yield "floor", partial(floor, model, batch)
    yield f"eap-ig, {STEPS} steps", partial(engine, model, batch)


LINES: dict[str, Callable[[HookedModel, PairBatch], Iterator[tuple[str, Work]]]] = {
    "circuits": circuits_line,
    "nodes": nodes_line,
    "patching": patching_line,
    "search": search_line,
    "eap-ig": scores_line,
}


def beside_tests(name: str) -> Any:
    """A module of the tests' own."""
    folder = str(Path(__file__).parents[2] / "tests")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


def count(model: HookedModel, work: Work) -> tuple[Any, int]:
    """What the work has the accelerator do, and how often the model runs in it."""
    passes = []
    handle = model.hf.register_forward_hook(lambda *_: passes.append(1))
    try:
        with beside_tests("counted").counted(model.device) as counts:
            work()
    finally:
        handle.remove()
    return counts, len(passes)


def main() -> None:
    """Print one JSON line for each count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", nargs="+", choices=LINES, default=list(LINES))
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--device", help="a real accelerator; left out, the pretended one")
    parser.add_argument("--kinds", type=int, default=0, help="name so many of the operations")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config(n_layer=arguments.layers))
    context = beside_tests("elsewhere").elsewhere() if arguments.device is None else nullcontext()
    with context as fake_device:
        device = fake_device or torch.device(arguments.device)
        model = HookedModel(hf.to(device), None, "GPT-2-small shape")  # type: ignore[arg-type]
        batch = pairs(2, 128, 0, device)
        base, _ = count(model, partial(plain, model, batch))

        def show(name: str, work: Work) -> int:
            counts, passes = count(model, work)
            line: dict[str, object] = {"what": name, "launches": counts.launches}
            line |= {"waits": counts.waits, "sent": counts.sent, "passes": passes}
            line["of_plain"] = round(counts.launches / base.launches, 2)
            if name.startswith("eap-ig"):
                line["of_floor"] = round(counts.launches / least[0], 2)
            if arguments.kinds:
                line["kinds"] = dict(counts.kinds.most_common(arguments.kinds))
            print(json.dumps(line), flush=True)
            launches: int = counts.launches
            return launches

        show("plain forward pass", partial(plain, model, batch))
        for line_name in arguments.lines:
            least = []
            for name, work in LINES[line_name](model, batch):
                least.append(show(name, work))


if __name__ == "__main__":
    main()
