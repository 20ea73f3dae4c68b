"""The numbers of a model's configuration that memory depends on."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedConfig

from circuits.errors import CircuitsError
from circuits.graph import Layout
from circuits.models.context_length import context_window

_PARALLEL = ("codegen", "cohere", "gptj", "phi")  # attention and MLP read the same, always


@dataclass(frozen=True)
class Sizes:
    """layout: its graph. context: most positions, if the configuration says so.

    rotary: q and k are turned after their projections, so that attention keeps other tensors.
    """

    layout: Layout
    d_model: int
    d_head: int
    d_vocab: int
    n_ctx: int | None
    rotary: bool

    @classmethod
    def of(cls, config: PreTrainedConfig) -> Sizes:
        """Read a decoder-only configuration.

        Args:
            config: of the model.

        Returns:
            Its sizes.

        Raises:
            CircuitsError: for what it lacks, by name.
        """
        text = config.get_text_config()
        if text.is_encoder_decoder:
            raise CircuitsError(
                f"{type(config).__name__}: encoder-decoder models are not planned, since what they "
                "keep depends on how a text splits between encoder and decoder; try a few pairs "
                "with --batch-size 1"
            )
        try:
            layers, heads = int(text.num_hidden_layers), int(text.num_attention_heads)
            d_model, d_vocab = int(text.hidden_size), int(text.vocab_size)
        except AttributeError as error:
            raise CircuitsError(f"{type(config).__name__}: {error}") from error
        kv_heads = int(getattr(text, "num_key_value_heads", None) or heads)
        parallel = bool(getattr(text, "use_parallel_residual", text.model_type in _PARALLEL))
        return cls(
            Layout(layers, heads, kv_heads, parallel),
            d_model,
            int(getattr(text, "head_dim", None) or d_model // heads),
            d_vocab,
            context_window(config),
            bool(getattr(text, "rope_parameters", None) or getattr(text, "rotary_dim", None)),
        )

    @property
    def ports(self) -> int:
        """The q, k and v readers of a layer."""
        return self.layout.n_heads + 2 * self.layout.n_kv_heads
