"""A Llama to be written: RMSNorm, rotary positions, keys and values shared by heads, SwiGLU."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import transformers
from torch import Tensor

from circuits.known.writer import NORM_EPSILON, Neurons, Rows, Writer

GATE = 20.0
"""silu(20) / 20 = 1 to eight digits: a gate that is open."""


class Llama(Writer):
    """Two query heads share each KV head. Rotary positions hardly turn what heads compare."""

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        d_vocab: int,
        length: int,
        layers: int = 2,
        heads: int = 4,
        d_head: int = 32,
        d_model: int = 64,
        neurons: int = 48,
        seed: int = 0,
    ) -> None:
        super().__init__(
            sizes,
            layers=layers,
            heads=heads,
            d_head=d_head,
            neurons=neurons,
            d_model=d_model,
            seed=seed,
        )
        config = transformers.LlamaConfig(
            vocab_size=d_vocab, hidden_size=d_model, intermediate_size=neurons,
            num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads // 2,
            head_dim=d_head, max_position_embeddings=length, rms_norm_eps=NORM_EPSILON,
            rope_parameters={"rope_type": "default", "rope_theta": 1e12},
            tie_word_embeddings=False, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )  # fmt: skip
        self.hf = transformers.LlamaForCausalLM(config)
        with torch.no_grad():
            for name, weight in self.hf.named_parameters():
                weight.fill_(NORM_EPSILON**0.5 if "norm" in name else 0.0)

    @property
    def tokens(self) -> Tensor:
        """The embedding: a row for each token."""
        rows: Tensor = self.hf.model.embed_tokens.weight.data
        return rows

    @property
    def unembedding(self) -> Tensor:
        """A row for each token: what its logit reads."""
        rows: Tensor = self.hf.lm_head.weight.data
        return rows

    def products(self, layer: int, gate: Neurons, passed: Neurons, write: Neurons) -> None:
        """Neurons that write (gate x) (passed x): a gate that is open or shut, and what it lets by.

        Args:
            layer: from 0.
            gate: read by the gates, which are open at 1 and shut at 0.
            passed: what they let by.
            write: what each neuron writes.
        """
        mlp, taken = self.hf.model.layers[layer].mlp, self._take(layer, len(gate))
        mlp.gate_proj.weight.data[taken] = GATE * gate
        mlp.up_proj.weight.data[taken] = passed / GATE
        mlp.down_proj.weight.data[:, taken] = write.T

    def _set_head(
        self, layer: int, head: int, query: Rows, key: Rows, value: Rows, output: Rows
    ) -> None:
        kv, attention = head // 2, self.hf.model.layers[layer].self_attn
        still = self.d_head // 8  # features below turn fast with the position
        room = self.d_head // 2 - still
        for weight, index, rows in (
            (attention.q_proj.weight, head, query[:room] * self.d_head**0.5),
            (attention.k_proj.weight, kv, key[:room]),
        ):
            start = index * self.d_head + still
            weight.data[start : start + len(rows)] = rows
        start = kv * self.d_head
        attention.v_proj.weight.data[start : start + len(value)] = value
        start = head * self.d_head
        attention.o_proj.weight.data[:, start : start + len(output)] = output.T

    def _set_idle_neurons(self, layer: int, taken: slice, read: Neurons, write: Neurons) -> None:
        mlp = self.hf.model.layers[layer].mlp
        mlp.gate_proj.weight.data[taken] = read.roll(1, 0)
        mlp.up_proj.weight.data[taken] = read
        mlp.down_proj.weight.data[:, taken] = write.T

    def _multiply_queries(self, factor: float) -> None:
        for block in self.hf.model.layers:
            block.self_attn.q_proj.weight.data *= factor

    def _kv_heads(self, layer: int, head: int) -> list[tuple[int, int]]:
        first = head - head % 2
        return [(layer, first), (layer, first + 1)]
