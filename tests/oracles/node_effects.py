"""Nodes and neurons by plain autograd on the Hugging Face model: an offset for every output.

Nothing here is shared with the package; names of modules are written out, by `split_paths.Names`
and the dictionary below.
"""

from __future__ import annotations

import torch

from oracles.split_paths import SplitPaths

LAST_MATRIX = {"gpt2": "mlp.c_proj", "llama": "mlp.down_proj"}


class NodeEffects:
    def __init__(self, model, n_heads, n_kv_heads, d_head):
        paths = SplitPaths(model, n_heads, n_kv_heads, d_head)
        self.model, self.layers, self.names = model, paths.layers, paths.names
        self.h, self.dh = n_heads, d_head
        self.last = LAST_MATRIX[model.config.model_type]

    def run(self, tokens, embedding=None):
        """Logits, and per source what it puts out: embedding, then per layer z and the hidden."""
        outputs, handles = [], []

        def enter(_, args):
            x = args[0].detach().clone() if embedding is None else embedding
            outputs.append(x.requires_grad_())
            return (x, *args[1:])

        def offset(_, args):
            changed = args[0] + torch.zeros_like(args[0])
            changed.retain_grad()
            outputs.append(changed)
            return (changed, *args[1:])

        handles.append(self.layers[0].register_forward_pre_hook(enter))
        for layer in self.layers:
            for name in (self.names.out, self.last):
                module = layer.get_submodule(name)
                handles.append(module.register_forward_pre_hook(offset))
        try:
            return self.model(input_ids=tokens).logits, outputs
        finally:
            for handle in handles:
                handle.remove()

    def scores(self, clean, corrupted, metric, nodes, weights):
        """Units of all sources in order: 1 for the input, z dimensions, hidden neurons."""
        _, at_clean = self.run(clean)
        _, at_corrupted = self.run(corrupted)
        delta = [(a - b).detach() for a, b in zip(at_clean, at_corrupted, strict=True)]
        start, end = at_corrupted[0].detach(), at_clean[0].detach()
        total = 0
        for node, weight in zip(nodes, weights, strict=True):
            logits, outputs = self.run(clean, start + node * (end - start))
            metric(logits).backward()
            units = [
                (change * output.grad).sum(dim=(0, 1))
                for change, output in zip(delta, outputs, strict=True)
            ]
            units[0] = units[0].sum()[None]
            total = total + weight * torch.cat(units)
        return total
