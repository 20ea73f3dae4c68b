"""Nodes and units replaced one by one, by hooks on the plain Hugging Face model.

Nothing here is shared with the package; names of modules are those of the other oracles and the
dictionary below. A unit of a head is a dimension of z, one of an MLP a hidden neuron.
"""

from __future__ import annotations

import torch

from oracles.encoder_decoder import EncoderDecoderPaths
from oracles.split_paths import SplitPaths

LAST_MATRIX = {
    "gpt2": "mlp.c_proj",
    "gpt_neox": "mlp.dense_4h_to_h",
    "gptj": "mlp.fc_out",
    "opt": "fc2",
    "bloom": "mlp.dense_4h_to_h",
}


class UnitSwaps:
    """entries, attentions, mlps: (first row, modules), rows in the package's order."""

    def __init__(self, model, n_heads, n_kv_heads, d_head):
        self.model, self.h = model, n_heads
        if model.config.is_encoder_decoder:
            self.find_two_streams(EncoderDecoderPaths(model, n_heads, d_head))
            return
        paths = SplitPaths(model, n_heads, n_kv_heads, d_head)
        names, layers = paths.names, paths.layers
        last = LAST_MATRIX.get(model.config.model_type, "mlp.down_proj")
        self.entries = [(0, layers[0])]
        self.attentions, self.mlps = [], []
        for index, layer in enumerate(layers):
            first = 1 + index * (n_heads + 1)
            post = layer.get_submodule(names.post1) if names.post1 else None
            self.attentions.append((first, layer.get_submodule(names.out), post))
            written = layer.get_submodule(names.written)
            self.mlps.append((first + n_heads, layer.get_submodule(last), written))

    def find_two_streams(self, paths):
        body = self.model.model if paths.post else self.model
        self.entries = [
            (paths.start[name], (side.layers if paths.post else side.block)[0])
            for name, side in (("enc", body.encoder), ("dec", body.decoder))
        ]
        self.attentions, self.mlps = [], []
        for sub in paths.sublayers:
            first = paths.first_row[id(sub)]
            if sub.mlp is None:
                self.attentions.append((first, sub.out, None))
            else:
                last = sub.written if paths.post else sub.written.wo
                self.mlps.append((first, last, sub.written))

    @torch.no_grad()
    def run(self, inputs, kept=None, reference=None):
        """Logits, and by row what was there: an embedding, z with its scale, hidden and output.

        kept: by row the units kept, one or all of its own; the others are the reference's.
        """
        return self.mixed(inputs, kept, reference)

    def mixed(self, inputs, kept=None, reference=None):
        """The same, in the graph, where `kept` may hold how much is kept of each unit."""
        seen, handles = {}, []

        def pre(module, hook):
            def call(_, args, kwargs):
                if args:
                    new = hook(args[0])
                    return None if new is None else ((new, *args[1:]), kwargs)
                new = hook(kwargs["hidden_states"])
                return None if new is None else (args, {**kwargs, "hidden_states": new})

            handles.append(module.register_forward_pre_hook(call, with_kwargs=True))

        def after(module, hook):
            handles.append(module.register_forward_hook(lambda _, args, out: hook(args[0], out)))

        def enter(row):
            def hook(x):
                seen[row] = x
                return None if kept is None or kept[row].all() else reference[row]

            return hook

        def heads(first, out, post):
            weight = out.weight if type(out).__name__ == "Conv1D" else out.weight.T
            size = weight.shape[0] // self.h
            state = {}

            def z_of(x):
                state["z"] = x
                if post is None:
                    remember(1.0)
                    return swapped(x)
                return None

            def remember(scale):
                for head in range(self.h):
                    part = slice(head * size, (head + 1) * size)
                    seen[first + head] = (state["z"][..., part], scale)

            def dropped():
                for head in range(self.h):
                    for unit, keeps in enumerate(kept[first + head].expand(size)):
                        if not keeps or keeps.is_floating_point():
                            yield first + head, unit, head * size + unit, keeps.float()

            def swapped(x):
                if kept is None:
                    return None
                new = x.clone()
                for row, unit, place, keeps in dropped():
                    other = reference[row][0][..., unit]
                    new[..., place] = other + keeps * (x[..., place] - other)
                return new

            def behind_the_norm(x, written):
                scale = torch.nan_to_num(written / x)
                remember(scale)
                if kept is None:
                    return None
                for row, unit, place, keeps in dropped():
                    z, its_scale = reference[row]
                    mine = state["z"][..., place, None] * weight[place] * scale
                    other = z[..., unit, None] * weight[place] * its_scale
                    written = written + (1 - keeps) * (other - mine)
                return written

            pre(out, z_of)
            if post is not None:
                after(post, behind_the_norm)

        def mlp(row, last, written):
            state = {}

            def neurons(x):
                state["hidden"] = x
                if kept is None or not kept[row].any():
                    return None
                if len(kept[row]) == 1 and kept[row].is_floating_point():
                    return None
                new = x.clone()
                for unit, keeps in enumerate(kept[row].expand(x.shape[-1])):
                    other = reference[row][0][..., unit]
                    new[..., unit] = other + keeps.float() * (x[..., unit] - other)
                return new

            def output(_, x):
                seen[row] = (state["hidden"], x)
                if kept is not None and len(kept[row]) == 1 and kept[row].is_floating_point():
                    return reference[row][1] + kept[row] * (x - reference[row][1])
                return None if kept is None or kept[row].any() else reference[row][1]

            pre(last, neurons)
            after(written, output)

        for row, module in self.entries:
            pre(module, enter(row))
        for site in self.attentions:
            heads(*site)
        for site in self.mlps:
            mlp(*site)
        try:
            return self.model(**inputs, use_cache=False).logits, seen
        finally:
            for handle in handles:
                handle.remove()
