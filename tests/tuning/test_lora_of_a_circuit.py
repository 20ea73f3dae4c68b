"""A circuit straight to a LoRA, as the README has it."""

import circuits
from circuits.graph import Circuit


def test_the_layers_of_the_circuits_edges_get_the_adapter(hooked):
    model = hooked("llama")
    circuit = Circuit.of(model.layout, ["input->a1.h0<q>", "a1.h0->m1", "m1->logits"])
    config = circuits.lora_config(circuit, model, rank=4, k=1)
    assert config.layers_to_transform == [1] and config.r == 4
