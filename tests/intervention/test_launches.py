"""What a GPU is given to do for a circuit: a few operations a layer, whatever is kept."""

import pytest
import torch
from conftest import VOCABULARY
from counted import counted
from elsewhere import elsewhere
from transformers import GPT2Config, GPT2LMHeadModel

from circuits.graph import Circuit, NodeCircuit, Units
from circuits.intervention import CircuitRunner
from circuits.models import HookedModel

LAYERS = 3
A_LAYER = 12  # operations of a circuit in each layer, beside the model's own
SHARES = (0.1, 0.4, 0.7, 0.95)


def launched(device, work):
    """How many operations the work is, and how often the host waits for one."""
    with counted(device) as found, torch.no_grad():
        work()
    return found.launches, found.waits


@pytest.mark.parametrize("heads", [2, 12])
def test_edges_cost_a_few_operations_a_layer_however_many_there_are(heads, random_pairs):
    torch.manual_seed(0)
    sizes = {"n_embd": 48, "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(n_layer=LAYERS, n_head=heads, **sizes)
    with elsewhere() as device:
        model = HookedModel(GPT2LMHeadModel(config).to(device), None, "far")
        batch = next(random_pairs(n=2).batches(2)).to(device)
        runner = CircuitRunner(model, batch)
        base = launched(device, lambda: runner.logits(Circuit.full(model.layout)))
        mask = model.layout.mask
        found = []
        for share in SHARES:
            draw = torch.rand(mask.shape, generator=torch.Generator().manual_seed(0))
            circuit = Circuit(model.layout, mask & (draw < share))
            found.append(launched(device, lambda circuit=circuit: runner.logits(circuit)))
        units = Units(model.layout, model.view.widths)
        half = torch.rand(len(units), generator=torch.Generator().manual_seed(0)) < 0.5
        circuit = NodeCircuit(units, half | units.roots)
        runner.logits(circuit)  # the neurons of the reference, once
        nodes = launched(device, lambda: runner.logits(circuit))
    assert base[0] > 15 * LAYERS
    assert {waits for _, waits in (*found, nodes)} == {base[1]}
    assert nodes[0] <= base[0] + 2 * LAYERS
    assert max(launches for launches, _ in found) <= base[0] + A_LAYER * LAYERS
