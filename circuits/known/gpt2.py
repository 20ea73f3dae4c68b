"""A GPT-2 to be written: LayerNorm, learned positions, one projection for q, k and v, GELU."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import transformers
from jaxtyping import Float
from torch import Tensor

from circuits.known.writer import NORM_EPSILON, SHARP, Copied, Neurons, Rows, Sought, Writer

SHARP_NEURONS = 20.0
"""Gain before GELU, undone after it: gelu(20 x) / 20 is max(0, x) but for |x| < 0.2."""


class GPT2(Writer):
    """Each token and each place has a row that says what it is."""

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        d_vocab: int,
        length: int,
        layers: int = 2,
        heads: int = 4,
        d_head: int = 16,
        neurons: int = 32,
        seed: int = 0,
    ) -> None:
        d_model = heads * d_head
        super().__init__(
            sizes,
            layers=layers,
            heads=heads,
            d_head=d_head,
            neurons=neurons,
            d_model=d_model,
            seed=seed,
        )
        config = transformers.GPT2Config(
            vocab_size=d_vocab, n_positions=length, n_embd=d_model, n_layer=layers,
            n_head=heads, n_inner=neurons, layer_norm_epsilon=NORM_EPSILON,
            tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        self.hf = transformers.GPT2LMHeadModel(config)
        with torch.no_grad():
            for name, weight in self.hf.named_parameters():
                norm = "ln_" in name and name.endswith("weight")
                weight.fill_(NORM_EPSILON**0.5 if norm else 0.0)

    @property
    def tokens(self) -> Tensor:
        """The embedding: a row for each token."""
        rows: Tensor = self.hf.transformer.wte.weight.data
        return rows

    @property
    def places(self) -> Tensor:
        """The position embedding: a row for each place."""
        rows: Tensor = self.hf.transformer.wpe.weight.data
        return rows

    @property
    def unembedding(self) -> Tensor:
        """A row for each token: what its logit reads."""
        rows: Tensor = self.hf.lm_head.weight.data
        return rows

    def seek(self, layer: int, head: int, *, key: Sought, value: Copied, output: Copied) -> None:
        """A head that looks for what one row says, wherever it stands itself.

        Args:
            layer: from 0.
            head: of the layer.
            key: the row, read at the positions that are looked at.
            value: what is copied from there, row by row.
            output: what each row of `value` is written as.
        """
        query = torch.zeros_like(key)
        self.head(layer, head, query=query, key=key, value=value, output=output)
        self.always(layer, head, torch.tensor([SHARP]))

    def always(self, layer: int, head: int, query: Tensor) -> None:
        """Let a head look for its keys wherever it stands: a bias of its queries.

        Args:
            layer: from 0.
            head: of the layer.
            query: how much it looks for each row of `key`.
        """
        start = head * self.d_head
        bias = self.hf.transformer.h[layer].attn.c_attn.bias.data
        bias[start : start + len(query)] = query * self.d_head**0.5

    def neurons(
        self, layer: int, read: Neurons, bias: Float[Tensor, " neuron"] | float, write: Neurons
    ) -> None:
        """Neurons that write max(0, read x + bias) along `write`, as nearly as GELU can.

        Args:
            layer: from 0.
            read: what each neuron reads.
            bias: of each, or of all.
            write: what each writes.
        """
        offsets = torch.as_tensor(bias, dtype=torch.float32).expand(len(read))
        self._set_neurons(layer, self._take(layer, len(read)), SHARP_NEURONS, read, offsets, write)

    def steps(
        self, layer: int, read: Neurons, at: Float[Tensor, " neuron"], width: float, write: Neurons
    ) -> None:
        """Steps: 0 where `read` x is at most `at`, 1 where it is `width` higher, linear between.

        Args:
            layer: from 0.
            read: what each step reads.
            at: where each begins.
            width: of the slope.
            write: what each writes.
        """
        self.neurons(layer, read, -at, write / width)
        self.neurons(layer, read, -at - width, -write / width)

    def _set_head(
        self, layer: int, head: int, query: Rows, key: Rows, value: Rows, output: Rows
    ) -> None:
        attention, start = self.hf.transformer.h[layer].attn, head * self.d_head
        d_model = self.n_heads * self.d_head
        for part, rows in enumerate((query * self.d_head**0.5, key, value)):
            columns = slice(part * d_model + start, part * d_model + start + len(rows))
            attention.c_attn.weight.data[:, columns] = rows.T
        attention.c_proj.weight.data[start : start + len(output)] = output

    def _set_neurons(
        self,
        layer: int,
        taken: slice,
        gain: float,
        read: Neurons,
        bias: Float[Tensor, " neuron"],
        write: Neurons,
    ) -> None:
        mlp = self.hf.transformer.h[layer].mlp
        mlp.c_fc.weight.data[:, taken] = gain * read.T
        mlp.c_fc.bias.data[taken] = gain * bias
        mlp.c_proj.weight.data[taken] = write / gain

    def _set_idle_neurons(self, layer: int, taken: slice, read: Neurons, write: Neurons) -> None:
        self._set_neurons(layer, taken, 1.0, read, self._normal(len(read)), write)

    def _multiply_queries(self, factor: float) -> None:
        queries = slice(self.n_heads * self.d_head)
        for block in self.hf.transformer.h:
            block.attn.c_attn.weight.data[:, queries] *= factor
            block.attn.c_attn.bias.data[queries] *= factor

    def _kv_heads(self, layer: int, head: int) -> list[tuple[int, int]]:
        return [(layer, head)]
