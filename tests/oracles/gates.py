"""Gates as plain numbers in plain autograd: every edge, or unit, is multiplied by its own."""

from __future__ import annotations

import torch

from oracles.encoder_decoder import EncoderDecoderPaths
from oracles.split_paths import SplitPaths
from oracles.unit_swaps import UnitSwaps


def _sizes(model):
    layout = model.layout
    return layout.n_heads, layout.n_kv_heads, model.view.d_head


def _fed(model, batch):
    """Prompt's length and what the decoder is fed."""
    prompt = int(batch.position[0]) + 1
    start = torch.full((len(batch), 1), model.hf.config.decoder_start_token_id)
    return prompt, torch.cat([start, batch.clean[:, prompt:]], dim=1)


def edge_logits(model, batch, gates, reference=None):
    """Logits at the answers. reference: what each source gives in place of the corrupted run."""
    if model.layout.n_encoder_layers:
        paths = EncoderDecoderPaths(model.hf, model.layout.n_heads, model.view.d_head)
        prompt, fed = _fed(model, batch)
        with torch.no_grad():
            _, there = paths.run(batch.corrupted[:, :prompt], fed)

        def away(reader, live):
            return sum(
                (1 - gates[row, reader]) * (theirs - mine)
                for (row, mine), (_, theirs) in zip(live, there[reader], strict=True)
            )

        logits = paths.run(batch.clean[:, :prompt], fed, away)[0]
        return logits[batch.example_index, batch.position - prompt + 1]
    paths = SplitPaths(model.hf, *_sizes(model))
    if reference is None:
        with torch.no_grad():
            reference = paths.run(batch.corrupted)[1]

    def offset(reader, live):
        return sum(
            (1 - gates[row, reader]) * (reference[row] - live[row])
            for row in range(paths.sources_before(reader))
        )

    return paths.run(batch.clean, offset)[0][batch.example_index, batch.position]


def constant_sources(model, means):
    """What each source of a decoder-only model gives, widened from constants, in their graph."""
    paths = SplitPaths(model.hf, *_sizes(model))
    found = [means.inputs[0]]
    for index, layer in enumerate(paths.layers):
        out = layer.get_submodule(paths.names.out)
        weight = out.weight if type(out).__name__ == "Conv1D" else out.weight.T
        for head, part in enumerate(weight.split(paths.dh)):
            found.append(means.z[index][:, head] @ part)
        found.append(means.mlp[index])
    return found


def unit_logits(model, batch, units, gates):
    """Logits at the answers."""
    swaps = UnitSwaps(model.hf, *_sizes(model))
    given = [{"input_ids": tokens} for tokens in (batch.clean, batch.corrupted)]
    reads = batch.example_index, batch.position
    if model.layout.n_encoder_layers:
        prompt, fed = _fed(model, batch)
        given = [
            {"input_ids": one["input_ids"][:, :prompt], "decoder_input_ids": fed} for one in given
        ]
        reads = batch.example_index, batch.position - prompt + 1
    reference = swaps.run(given[1])[1]
    kept = [*gates.split(list(units.widths))]
    for row in model.layout.roots:
        kept[row] = torch.ones(1, dtype=torch.bool)
    return swaps.mixed(given[0], kept, reference)[0][reads]
