"""Split paths of T5 and BART, on the plain Hugging Face model, by plain autograd.

As in `split_paths.py`, with two streams. BART normalises the stream itself after every sublayer;
each source's share is carried through each norm by that run's own statistics, and the constants on
the way make one more source, so that the shares add up to the stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass
class Sublayer:
    side: str
    norm: object = None
    q: object = None
    k: object = None
    v: object = None
    out: object = None
    cross: bool = False
    mlp: object = None
    written: object = None
    after: object = None


@dataclass
class State:
    rows: dict = field(default_factory=lambda: {"enc": [], "dec": []})  # (row, share) as it is now
    raw: dict = field(default_factory=dict)
    final: object = None  # the encoder's shares at its end


class EncoderDecoderPaths:
    def __init__(self, model, n_heads, d_head):
        self.model, self.h, self.dh = model, n_heads, d_head
        self.post = model.config.model_type == "bart"
        self.sublayers = self.bart() if self.post else self.t5()
        row, column = 0, 0
        self.first_row, self.first_column, self.start = {}, {}, {}
        for side in ("enc", "dec"):
            self.start[side] = row
            row += 2 if self.post else 1
            for sub in (s for s in self.sublayers if s.side == side):
                self.first_row[id(sub)], self.first_column[id(sub)] = row, column
                row += 1 if sub.mlp is not None else n_heads
                column += 1 if sub.mlp is not None else 3 * n_heads
        self.n_sources, self.n_readers = row, column + 1

    def t5(self):
        found = []
        for block in self.model.encoder.block:
            found.append(self.t5_attention("enc", block.layer[0], block.layer[0].SelfAttention))
            found.append(self.t5_mlp("enc", block.layer[1]))
        for block in self.model.decoder.block:
            found.append(self.t5_attention("dec", block.layer[0], block.layer[0].SelfAttention))
            found.append(
                self.t5_attention("dec", block.layer[1], block.layer[1].EncDecAttention, cross=True)
            )
            found.append(self.t5_mlp("dec", block.layer[2]))
        return found

    def t5_attention(self, side, layer, a, cross=False):
        return Sublayer(side, layer.layer_norm, a.q, a.k, a.v, a.o, cross)

    def t5_mlp(self, side, layer):
        ff = layer.DenseReluDense
        return Sublayer(side, layer.layer_norm, mlp=layer.layer_norm, written=ff)

    def bart(self):
        found = []

        def attention(side, a, after, cross=False):
            found.append(
                Sublayer(side, None, a.q_proj, a.k_proj, a.v_proj, a.out_proj, cross, after=after)
            )

        def mlp(side, layer):
            found.append(
                Sublayer(side, mlp=layer.fc1, written=layer.fc2, after=layer.final_layer_norm)
            )

        for layer in self.model.model.encoder.layers:
            attention("enc", layer.self_attn, layer.self_attn_layer_norm)
            mlp("enc", layer)
        for layer in self.model.model.decoder.layers:
            attention("dec", layer.self_attn, layer.self_attn_layer_norm)
            attention("dec", layer.encoder_attn, layer.encoder_attn_layer_norm, cross=True)
            mlp("dec", layer)
        return found

    def run(self, encoder_ids, decoder_ids, offset=None, embeddings=None):
        """Logits, and for every reader the shares that it sees, as a list of (row, tensor).

        offset(reader, shares) -> tensor added to that reader's input, or None.
        """
        model, state, seen, handles = self.model, State(), {}, []
        heads, size = self.h, self.dh

        def before(module, hook):
            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

        def after(module, hook):
            handles.append(module.register_forward_hook(hook))

        def look(reader, shares):
            seen[reader] = list(shares)
            return None if offset is None else offset(reader, seen[reader])

        def enter(side):
            def hook(_, args, kwargs):
                x = args[0] if args else kwargs["hidden_states"]
                x = x if embeddings is None else embeddings[side]
                state.rows[side] = [(self.start[side], x)]
                if self.post:
                    state.rows[side].append((self.start[side] + 1, torch.zeros_like(x)))
                return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

            return hook

        def remember(key):
            def hook(_, args, kwargs):
                state.raw[key] = args[0]

            return hook

        def project(sub, port):
            place = "qkv".index(port)

            def hook(module, args, output):
                output = output.clone()
                from_encoder = sub.cross and port != "q"
                side = "enc" if from_encoder else sub.side
                for head in range(heads):
                    reader = self.first_column[id(sub)] + place * heads + head
                    extra = look(reader, state.rows[side])
                    if extra is None:
                        continue
                    if self.post:
                        x = args[0] + extra
                    elif from_encoder:
                        x = model.encoder.final_layer_norm.forward(state.raw["final"] + extra)
                    else:
                        x = sub.norm.forward(state.raw[id(sub)] + extra)
                    part = slice(head * size, (head + 1) * size)
                    output[..., part] = module.forward(x)[..., part]
                return output

            return hook

        def write_heads(sub):
            def hook(module, args, _):
                for head in range(heads):
                    part = slice(head * size, (head + 1) * size)
                    share = args[0][..., part] @ module.weight.T[part]
                    state.rows[sub.side].append((self.first_row[id(sub)] + head, share))
                if self.post:
                    self.constant(state, sub.side, module.bias)

            return hook

        def write_mlp(sub):
            def hook(_, __, output):
                state.rows[sub.side].append((self.first_row[id(sub)], output))

            return hook

        def read_mlp(sub):
            def hook(_, args, kwargs):
                extra = look(self.first_column[id(sub)], state.rows[sub.side])
                return None if extra is None else ((args[0] + extra, *args[1:]), kwargs)

            return hook

        def rescale(sub):
            def hook(module, args, _):
                deviation = (args[0].var(dim=-1, unbiased=False, keepdim=True) + module.eps).sqrt()
                state.rows[sub.side] = [
                    (row, (x - x.mean(dim=-1, keepdim=True)) * module.weight / deviation)
                    for row, x in state.rows[sub.side]
                ]
                self.constant(state, sub.side, module.bias)

            return hook

        def read_logits(_, args, kwargs):
            extra = look(self.n_readers - 1, state.rows["dec"])
            return None if extra is None else ((args[0] + extra, *args[1:]), kwargs)

        if self.post:
            before(model.model.encoder.layers[0], enter("enc"))
            before(model.model.decoder.layers[0], enter("dec"))
            before(model.lm_head, read_logits)
        else:
            before(model.encoder.block[0], enter("enc"))
            before(model.decoder.block[0], enter("dec"))
            before(model.encoder.final_layer_norm, remember("final"))
            before(model.decoder.final_layer_norm, read_logits)
        for sub in self.sublayers:
            if sub.mlp is not None:
                before(sub.mlp, read_mlp(sub))
                after(sub.written, write_mlp(sub))
            else:
                if sub.norm is not None:
                    before(sub.norm, remember(id(sub)))
                for port in "qkv":
                    after(getattr(sub, port), project(sub, port))
                after(sub.out, write_heads(sub))
            if sub.after is not None:
                after(sub.after, rescale(sub))
        try:
            logits = model(
                input_ids=encoder_ids, decoder_input_ids=decoder_ids, use_cache=False
            ).logits
        finally:
            for handle in handles:
                handle.remove()
        return logits, seen

    def constant(self, state, side, bias):
        row, share = state.rows[side][1]
        state.rows[side][1] = (row, share + bias)

    def scores(self, clean, corrupted, decoder_ids, metric, nodes, weights):
        """metric(logits) -> scalar; nodes 0 = corrupted, 1 = clean."""
        with torch.no_grad():
            _, at_clean = self.run(clean, decoder_ids)
            _, at_corrupted = self.run(corrupted, decoder_ids)
        delta = {
            reader: [
                (row, a - b)
                for (row, a), (_, b) in zip(at_clean[reader], at_corrupted[reader], strict=True)
            ]
            for reader in at_clean
        }
        ends = [self.embeddings(ids, decoder_ids) for ids in (clean, corrupted)]
        scores = torch.zeros(self.n_sources, self.n_readers)
        for node, weight in zip(nodes, weights, strict=True):
            offsets = {}

            def offset(reader, shares, offsets=offsets):
                offsets[reader] = torch.zeros_like(shares[0][1]).requires_grad_()
                return offsets[reader]

            point = {
                side: ends[1][side] + node * (ends[0][side] - ends[1][side]) for side in ends[0]
            }
            logits, _ = self.run(clean, decoder_ids, offset, point)
            readers = sorted(offsets)
            gradients = torch.autograd.grad(metric(logits), [offsets[reader] for reader in readers])
            for reader, gradient in zip(readers, gradients, strict=True):
                for row, change in delta[reader]:
                    scores[row, reader] += weight * (change * gradient).sum()
        return scores

    def embeddings(self, encoder_ids, decoder_ids):
        with torch.no_grad():
            _, seen = self.run(encoder_ids, decoder_ids)
        encoder = next(s for s in self.sublayers if s.side == "enc")
        decoder = next(s for s in self.sublayers if s.side == "dec")
        return {
            "enc": seen[self.first_column[id(encoder)]][0][1],
            "dec": seen[self.first_column[id(decoder)]][0][1],
        }

    @torch.no_grad()
    def execute(self, clean, corrupted, decoder_ids, keep):
        """Logits with every edge outside `keep` (source, reader) taken from the corrupted run."""
        _, reference = self.run(corrupted, decoder_ids)

        def offset(reader, live):
            total = torch.zeros_like(live[0][1])
            for (row, mine), (_, theirs) in zip(live, reference[reader], strict=True):
                if not keep[row, reader]:
                    total = total + theirs - mine
            return total

        return self.run(clean, decoder_ids, offset)[0]
