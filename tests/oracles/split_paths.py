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
    """Where things are. fused: "" (three modules), "ports" (all q, all k, all v) or "heads" (q, k,
    v of one head after another). norm1, norm2, post1: "" where there is none.
    """

    layers: str = "model.layers"
    norm1: str = "input_layernorm"
    norm2: str = "post_attention_layernorm"
    final: str = "model.norm"
    q: str = "self_attn.q_proj"
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    out: str = "self_attn.o_proj"
    post1: str = ""
    mlp: str = "mlp"
    written: str = "mlp"
    fused: str = ""
    parallel: bool = False


def fused(module, how, **rest):
    return Names(q=module, k=module, v=module, fused=how, **rest)


_GPT = {"layers": "transformer.h", "norm1": "ln_1", "final": "transformer.ln_f"}
_AFTER = {"post1": "post_attention_layernorm", "written": "post_feedforward_layernorm"}
FAMILIES = {
    "gpt2": fused("attn.c_attn", "ports", **_GPT, norm2="ln_2", out="attn.c_proj"),
    "phi3": fused("self_attn.qkv_proj", "ports"),
    "gemma2": Names(norm2="pre_feedforward_layernorm", **_AFTER),
    "gemma3_text": Names(norm2="pre_feedforward_layernorm", **_AFTER),
    "olmo2": Names(norm1="", norm2="", **_AFTER),
    "gpt_neox": fused(
        "attention.query_key_value",
        "heads",
        layers="gpt_neox.layers",
        final="gpt_neox.final_layer_norm",
        out="attention.dense",
        parallel=True,
    ),
    "gptj": Names(
        **_GPT,
        norm2="",
        q="attn.q_proj",
        k="attn.k_proj",
        v="attn.v_proj",
        out="attn.out_proj",
        parallel=True,
    ),
    "opt": Names(
        layers="model.decoder.layers",
        norm1="self_attn_layer_norm",
        norm2="final_layer_norm",
        final="model.decoder.final_layer_norm",
        out="self_attn.out_proj",
        mlp="fc1",
        written="fc2",
    ),
    "bloom": fused(
        "self_attention.query_key_value",
        "heads",
        layers="transformer.h",
        final="transformer.ln_f",
        out="self_attention.dense",
        written="mlp.dense_4h_to_h",
    ),
}


class SplitPaths:
    """A model with one offset per reader. Scores are (source, reader) in the package's order."""

    def __init__(self, model, n_heads, n_kv_heads, d_head):
        self.model, self.h, self.kv, self.dh = model, n_heads, n_kv_heads, d_head
        self.names = FAMILIES.get(model.config.model_type, Names())
        self.parallel = self.names.parallel
        if model.config.model_type == "gpt_neox":
            self.parallel = model.config.use_parallel_residual
        self.layers = list(model.get_submodule(self.names.layers))
        self.n_sources = 1 + len(self.layers) * (n_heads + 1)
        self.per_layer = n_heads + 2 * n_kv_heads + 1
        self.n_readers = len(self.layers) * self.per_layer + 1

    def sources_before(self, reader):
        if reader == self.n_readers - 1:
            return self.n_sources
        layer, place = divmod(reader, self.per_layer)
        reads_heads = place == self.per_layer - 1 and not self.parallel
        return 1 + layer * (self.h + 1) + (self.h if reads_heads else 0)

    def features(self, port, head):
        """Which output features of the projection's module belong to a head."""
        if self.names.fused == "heads":
            start = (3 * head + "qkv".index(port)) * self.dh
        else:
            first = {"q": 0, "k": self.h, "v": self.h + self.kv}[port] if self.names.fused else 0
            start = (first + head) * self.dh
        return slice(start, start + self.dh)

    def run(self, tokens, offset=None, embedding=None):
        """Logits and the list of source outputs, each (batch, pos, d_model).

        offset(reader, sources so far) -> tensor added to that reader's input, or None.
        """
        names = self.names
        written, handles, stream = {}, [], {}

        def sources():
            return [written[key] for key in sorted(written)]

        def offset_of(reader):
            return None if offset is None else offset(reader, sources())

        def norm(layer, name):
            return layer.get_submodule(name).forward if name else lambda x: x

        def enter(index):
            def hook(_, args, kwargs):
                x = args[0] if args else kwargs["hidden_states"]
                if index == 0:
                    x = x if embedding is None else embedding
                    written[0] = x
                stream[index] = x
                return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

            return hook

        def project(index, layer, port):
            count = {"q": self.h, "k": self.kv, "v": self.kv}[port]
            first = {"q": 0, "k": self.h, "v": self.h + self.kv}[port]

            def hook(module, _, output):
                output = output.clone()
                for head in range(count):
                    extra = offset_of(index * self.per_layer + first + head)
                    if extra is not None:
                        columns = self.features(port, head)
                        value = module.forward(norm(layer, names.norm1)(stream[index] + extra))
                        output[..., columns] = value[..., columns]
                return output

            return hook

        def attention_output(index, layer):
            def hook(module, args, output):
                z = args[0]
                weight = module.weight if type(module).__name__ == "Conv1D" else module.weight.T
                scale = 1.0
                if names.post1:  # an RMSNorm scales the sum, and so each of its terms
                    scale = torch.nan_to_num(norm(layer, names.post1)(output) / output)
                for head in range(self.h):
                    part = slice(head * self.dh, (head + 1) * self.dh)
                    row = 1 + index * (self.h + 1) + head
                    written[row] = (z[..., part] @ weight[part]) * scale

            return hook

        def mlp_norm(index):
            def hook(module, args, output):
                extra = offset_of((index + 1) * self.per_layer - 1)
                if extra is None:
                    return None
                return module.forward(args[0] + extra.reshape(args[0].shape))

            return hook

        def mlp_input(index, layer):
            def hook(_, args):
                extra = offset_of((index + 1) * self.per_layer - 1)
                if extra is None:
                    return None
                if names.norm1:  # shared with attention
                    return (norm(layer, names.norm1)(stream[index] + extra), *args[1:])
                return (args[0] + extra, *args[1:])

            return hook

        def mlp_output(index):
            def hook(_, __, output):
                written[(index + 1) * (self.h + 1)] = output.reshape(stream[index].shape)

            return hook

        def final_input(_, args):
            extra = offset_of(self.n_readers - 1)
            return None if extra is None else (args[0] + extra,)

        for index, layer in enumerate(self.layers):
            handles.append(layer.register_forward_pre_hook(enter(index), with_kwargs=True))
            for port in "qkv":
                module = layer.get_submodule(getattr(names, port))
                handles.append(module.register_forward_hook(project(index, layer, port)))
            out = layer.get_submodule(names.out)
            handles.append(out.register_forward_hook(attention_output(index, layer)))
            if names.norm2:
                norm2 = layer.get_submodule(names.norm2)
                handles.append(norm2.register_forward_hook(mlp_norm(index)))
            else:
                mlp = layer.get_submodule(names.mlp)
                handles.append(mlp.register_forward_pre_hook(mlp_input(index, layer)))
            last = layer.get_submodule(names.written)
            handles.append(last.register_forward_hook(mlp_output(index)))
        final = self.model.get_submodule(self.names.final)
        handles.append(final.register_forward_pre_hook(final_input))
        try:
            return self.model(input_ids=tokens, use_cache=False).logits, sources()
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
    def execute(self, clean, corrupted, keep, reference=None):
        """Logits with every edge outside `keep` (source, reader) taken from the corrupted run, or
        from these source outputs.
        """
        reference = self.run(corrupted)[1] if reference is None else reference

        def offset(reader, live):
            total = torch.zeros_like(reference[0])
            for source in range(self.sources_before(reader)):
                if not keep[source, reader]:
                    total = total + reference[source] - live[source]
            return total

        return self.run(clean, offset)[0]
