"""Every edge as a tensor of its own, on the plain Hugging Face model, by plain autograd.

Each reader's input is the residual stream plus an offset that belongs to this reader alone. The
gradient of the metric at the offset is the reader's gradient; a chosen offset executes a circuit.
Nothing here is shared with the package: names of modules are written out, source outputs are kept
d_model wide, every step is contracted by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Names:
    layers: str
    norm1: str
    norm2: str
    final: str
    q: str
    k: str
    v: str
    out: str
    fused: bool = False


LLAMA = Names(
    "model.layers",
    "input_layernorm",
    "post_attention_layernorm",
    "model.norm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
)
GPT2 = Names(
    "transformer.h",
    "ln_1",
    "ln_2",
    "transformer.ln_f",
    "attn.c_attn",
    "attn.c_attn",
    "attn.c_attn",
    "attn.c_proj",
    fused=True,
)
PHI3 = Names(
    "model.layers",
    "input_layernorm",
    "post_attention_layernorm",
    "model.norm",
    "self_attn.qkv_proj",
    "self_attn.qkv_proj",
    "self_attn.qkv_proj",
    "self_attn.o_proj",
    fused=True,
)
FAMILIES = {"gpt2": GPT2, "phi3": PHI3}


class SplitPaths:
    """A model with one offset per reader. Scores are (source, reader) in the package's order."""

    def __init__(self, model, n_heads, n_kv_heads, d_head):
        self.model, self.h, self.kv, self.dh = model, n_heads, n_kv_heads, d_head
        self.names = FAMILIES.get(model.config.model_type, LLAMA)
        self.layers = list(model.get_submodule(self.names.layers))
        self.n_sources = 1 + len(self.layers) * (n_heads + 1)
        self.per_layer = n_heads + 2 * n_kv_heads + 1
        self.n_readers = len(self.layers) * self.per_layer + 1

    def sources_before(self, reader):
        if reader == self.n_readers - 1:
            return self.n_sources
        layer, place = divmod(reader, self.per_layer)
        return 1 + layer * (self.h + 1) + (self.h if place == self.per_layer - 1 else 0)

    def run(self, tokens, offset=None, embedding=None):
        """Logits and the list of source outputs, each (batch, pos, d_model).

        offset(reader, sources so far) -> tensor added to that reader's input, or None.
        """
        sources, handles, stream = [], [], {}

        def offset_of(reader):
            return None if offset is None else offset(reader, sources)

        def enter(index):
            def hook(_, args):
                x = args[0]
                if index == 0:
                    x = x if embedding is None else embedding
                    sources.append(x)
                stream[index] = x
                return (x, *args[1:])

            return hook

        def project(index, layer, port):
            count = {"q": self.h, "k": self.kv, "v": self.kv}[port]
            first = {"q": 0, "k": self.h, "v": self.h + self.kv}[port]
            skip = first * self.dh if self.names.fused else 0

            def hook(module, _, output):
                output = output.clone()
                for head in range(count):
                    extra = offset_of(index * self.per_layer + first + head)
                    if extra is not None:
                        norm = layer.get_submodule(self.names.norm1)
                        columns = slice(skip + head * self.dh, skip + (head + 1) * self.dh)
                        value = module.forward(norm.forward(stream[index] + extra))
                        output[..., columns] = value[..., columns]
                return output

            return hook

        def attention_output(module, args):
            z = args[0]
            weight = module.weight if type(module).__name__ == "Conv1D" else module.weight.T
            for head in range(self.h):
                part = slice(head * self.dh, (head + 1) * self.dh)
                sources.append(z[..., part] @ weight[part])

        def mlp_input(index):
            def hook(module, args, output):
                extra = offset_of((index + 1) * self.per_layer - 1)
                return None if extra is None else module.forward(args[0] + extra)

            return hook

        def final_input(_, args):
            extra = offset_of(self.n_readers - 1)
            return None if extra is None else (args[0] + extra,)

        for index, layer in enumerate(self.layers):
            names = self.names
            handles.append(layer.register_forward_pre_hook(enter(index)))
            for port in "qkv":
                module = layer.get_submodule(getattr(names, port))
                handles.append(module.register_forward_hook(project(index, layer, port)))
            out = layer.get_submodule(names.out)
            handles.append(out.register_forward_pre_hook(attention_output))
            norm2 = layer.get_submodule(names.norm2)
            handles.append(norm2.register_forward_hook(mlp_input(index)))
            handles.append(layer.mlp.register_forward_hook(lambda _, __, out: sources.append(out)))
        final = self.model.get_submodule(self.names.final)
        handles.append(final.register_forward_pre_hook(final_input))
        try:
            return self.model(input_ids=tokens, use_cache=False).logits, sources
        finally:
            for handle in handles:
                handle.remove()

    def scores(self, clean, corrupted, metric, nodes, weights):
        """metric(logits) -> scalar summed over examples; nodes 0 = corrupted, 1 = clean."""
        with torch.no_grad():
            _, at_clean = self.run(clean)
            _, at_corrupted = self.run(corrupted)
        delta = [a - b for a, b in zip(at_clean, at_corrupted, strict=True)]
        scores = torch.zeros(self.n_sources, self.n_readers)
        for node, weight in zip(nodes, weights, strict=True):
            offsets = {}

            def offset(reader, _, offsets=offsets):
                offsets[reader] = torch.zeros_like(delta[0]).requires_grad_()
                return offsets[reader]

            point = at_corrupted[0] + node * (at_clean[0] - at_corrupted[0])
            logits, _ = self.run(clean, offset, point)
            readers = sorted(offsets)
            gradients = torch.autograd.grad(metric(logits), [offsets[reader] for reader in readers])
            for reader, gradient in zip(readers, gradients, strict=True):
                for source in range(self.sources_before(reader)):
                    scores[source, reader] += weight * (delta[source] * gradient).sum()
        return scores

    @torch.no_grad()
    def execute(self, clean, corrupted, keep):
        """Logits with every edge outside `keep` (source, reader) taken from the corrupted run."""
        _, reference = self.run(corrupted)

        def offset(reader, live):
            total = torch.zeros_like(reference[0])
            for source in range(self.sources_before(reader)):
                if not keep[source, reader]:
                    total = total + reference[source] - live[source]
            return total

        return self.run(clean, offset)[0]
