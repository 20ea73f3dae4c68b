"""EAP-IG as its authors' code computes it (Hanna et al. 2024), on TransformerLens's bridge.

`use_split_qkv_input` gives every head a copy of the residual stream, `use_attn_result` its own
output; all sources' differences stand in one (batch, pos, source, d_model) buffer, and every
reader's backward hook contracts it at once with its gradient, at every step. Weights are frozen
unless told: the authors' code leaves that to its user, and autograd then computes their gradients.
"""

from __future__ import annotations

import torch
from torch import einsum


class SplitHooks:
    """Scores are (source, reader) in the package's order: by layer q, k, v of all heads, MLP.

    entry, port, mlp, final: hooks where the embedding enters; that heads (by layer, and q, k or v),
    MLPs (by layer) and logits read.
    """

    entry, port = "blocks.0.hook_in", "blocks.{}.attn.hook_{}_input"
    mlp, final = "blocks.{}.ln2.hook_in", "ln_final.hook_in"

    def __init__(self, bridge, *, frozen=True):
        self.bridge, cfg = bridge, bridge.cfg
        bridge.set_use_split_qkv_input(True)
        bridge.set_use_attn_result(True)
        for parameter in bridge.parameters():
            parameter.requires_grad_(not frozen)
        self.layers, self.heads = cfg.n_layers, cfg.n_heads
        self.kv = cfg.n_key_value_heads or cfg.n_heads
        self.per_layer = self.heads + 2 * self.kv + 1
        self.n_sources = 1 + self.layers * (self.heads + 1)
        self.n_readers = self.layers * self.per_layer + 1

    def sources(self):
        """Hook and rows of every source."""
        yield self.entry, slice(0, 1)
        for layer in range(self.layers):
            first = 1 + layer * (self.heads + 1)
            mlp = first + self.heads
            yield f"blocks.{layer}.attn.hook_result", slice(first, mlp)
            yield f"blocks.{layer}.hook_mlp_out", slice(mlp, mlp + 1)

    def readers(self):
        """Hook, columns and the number of sources before, of every reader."""
        for layer in range(self.layers):
            before, column = 1 + layer * (self.heads + 1), layer * self.per_layer
            for port, count in zip("qkv", (self.heads, self.kv, self.kv), strict=True):
                yield self.port.format(layer, port), (column, column + count), before
                column += count
            yield self.mlp.format(layer), (column, column + 1), before + self.heads
        yield self.final, (self.n_readers - 1, self.n_readers), self.n_sources

    def scores(self, clean, corrupted, metric, nodes, weights):
        """metric(logits) -> scalar summed over examples; nodes 0 = corrupted, 1 = clean."""
        width = self.bridge.cfg.d_model
        delta = torch.zeros(*clean.shape, self.n_sources, width)
        scores = torch.zeros(self.n_sources, self.n_readers)

        def add(rows, sign):
            def hook(value, hook):
                delta[:, :, rows] += sign * value.view(*clean.shape, -1, width)

            return hook

        with torch.no_grad():
            for tokens, sign in ((corrupted, -1), (clean, 1)):
                hooks = [(name, add(rows, sign)) for name, rows in self.sources()]
                with self.bridge.hooks(fwd_hooks=hooks):
                    self.bridge(tokens)
                if sign < 0:
                    start = -delta[:, :, 0].clone()
        path = delta[:, :, 0].clone()

        def contract(columns, before, weight):
            def hook(gradient, hook):
                gradient = gradient.reshape(*clean.shape, -1, width)
                scores[:before, slice(*columns)] += weight * einsum(
                    "bpud,bpvd->uv", delta[:, :, :before], gradient
                )

            return hook

        for node, weight in zip(nodes, weights, strict=True):
            point = start + node * path

            def interpolated(value, hook, point=point):
                return point.requires_grad_()

            backward = [(name, contract(*where, weight)) for name, *where in self.readers()]
            with self.bridge.hooks(fwd_hooks=[(self.entry, interpolated)], bwd_hooks=backward):
                metric(self.bridge(clean)).backward()
        return scores
