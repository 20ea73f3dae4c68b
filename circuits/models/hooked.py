"""`HookedModel`: a TransformerLens model seen as a residual-stream graph.

TransformerLens 4 has no HookedTransformer; its TransformerBridge wraps the Hugging Face model and
re-implements attention in Python, always eager. Attribution and interventions here run on the plain
model beneath (SDPA), hooked where the bridge's architecture adapter says; `bridge` is the
TransformerBridge over the same weights, made when first asked for, with all its hooks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from circuits.errors import CircuitsError, UnsupportedError
from circuits.graph.layout import Layout
from circuits.graph.provenance import MissingBegin
from circuits.models import begin
from circuits.models.architecture import describe
from circuits.models.backward.parts import NonlinearParts
from circuits.models.bridge import bridge_of
from circuits.models.checkpoints import load, required
from circuits.models.context_length import context_window, longrope_window
from circuits.models.gradcheck import wrong_gradients
from circuits.models.hooks import Hooks
from circuits.models.inputs import (
    ModelInputs,
    Prefix,
    decoder_only,
    drop_prefix,
    encoder_decoder,
    shared_length,
)
from circuits.models.load_errors import first_sentence
from circuits.models.placement import home, settle, tensor_of
from circuits.models.plain import quantisation, quantised_layers, require_plain
from circuits.models.quantised import exact_products
from circuits.models.recipe import CheckedRecipe, FromMemory, FromSource
from circuits.models.recompute import recomputed
from circuits.models.selfcheck import check_view
from circuits.models.sparse_last_layer import sparse_last_layer
from circuits.models.weight_loading import PLAIN, WeightLoading
from circuits.runtime.heap import release_freed
from circuits.runtime.notices import say
from circuits.runtime.oom import out_of_memory
from tasks.pairs import PairBatch, PairSet

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


class HookedModel:
    """A frozen language model with its tokenizer, its graph and the hooks to run it.

    Attributes:
        hf: the Hugging Face model, in evaluation mode, its parameters frozen.
        view: what is where in it, as residual streams.
        name: what it was loaded by; results record it.
        gguf: the GGUF file that its weights were read from, if any.
        asked_tokenizer: where the tokenizer is from, if it is not the model's own.
    """

    def __init__(
        self,
        hf: nn.Module,
        tokenizer: PreTrainedTokenizerBase | None,
        name: str,
        *,
        no_tokenizer: str = "",
        gguf: Mapping[str, str] | None = None,
        asked_tokenizer: str | None = None,
    ) -> None:
        """Wrap a loaded model: freeze it, describe it, and check the description by running it.

        Quantised layers of bitsandbytes are made to multiply with just what their weights stand
        for (`models/quantised.py`); others, too, are taken where their gradients are of that.

        Args:
            hf: a plain Hugging Face language model; it is frozen in place.
            tokenizer: its tokenizer, or None.
            name: what to call it in results and messages.
            no_tokenizer: why there is none; said where one is asked for.
            gguf: the file that the weights were read from, for the records of results.
            asked_tokenizer: where the tokenizer is from, if it is not the model's own.

        Raises:
            UnsupportedError: with the reason, for what is no plain Hugging Face model, and where
                the architecture does not fit.
        """
        hf = require_plain(hf, name)
        hf.train(False)
        settle(hf)
        self.hf = hf.requires_grad_(False)
        self._tokenizer, self._no_tokenizer = tokenizer, no_tokenizer
        self.name, self.gguf, self.asked_tokenizer = name, gguf, asked_tokenizer
        self._source: FromSource | None = None
        with _as_unsupported(hf, name):
            exact_products(hf)
            wrong = wrong_gradients(hf, quantised_layers(hf))
        if wrong:
            raise UnsupportedError(
                f"{name}: its weights are quantised ({quantisation(hf)}), and its layers {wrong}; "
                "load it unquantised, or with quantize int8 or nf4"
            )
        with _as_unsupported(hf, name):
            self.view = describe(hf)
            check_view(self)

    def __repr__(self) -> str:
        layout = self.layout
        size = f"layers {layout.n_layers}, heads {layout.n_heads}, edges {layout.n_edges:,}"
        return f"<HookedModel: {self.name}, {size}, on {self.device}>"

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        base: str | Path | None = None,
        tokenizer: str | Path | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str = torch.float32,
        weights: WeightLoading = PLAIN,
    ) -> HookedModel:
        """Load a model with its tokenizer.

        Args:
            source: a hub id ("gpt2", "org/model@revision"), a local folder, a GGUF file, a packaged
                model ("smollm2-135m"), or the folder of a PEFT adapter, which is merged.
            base: the model under an adapter, where the adapter's own record of it does not serve.
            tokenizer: such a source, whose tokenizer is taken in place of the model's own.
            device: where to; None takes the first accelerator, or the CPU.
            dtype: what to compute in.
            weights: how they are kept: quantised, or plain.

        Returns:
            The model, frozen and checked.

        Raises:
            CircuitsError: where it cannot be loaded, is damaged, or is of a kind that is not
                supported.
        """
        loaded = load(
            source, base=base, tokenizer=tokenizer, device=device, dtype=dtype, weights=weights
        )
        hooked = cls(
            loaded.model,
            loaded.tokenizer,
            str(source),
            no_tokenizer=loaded.no_tokenizer,
            gguf=loaded.gguf,
            asked_tokenizer=None if tokenizer is None else str(tokenizer),
        )
        hooked._source = FromSource.of(source, base, tokenizer, dtype, weights)
        release_freed()
        return hooked

    def recipe(self) -> CheckedRecipe[HookedModel]:
        """How another process comes by this model, on a device of its own.

        Returns:
            By the source that it was loaded from; a model that was wrapped travels itself. What is
            loaded is compared with this model's fingerprint.

        Raises:
            CircuitsError: for a model that was spread over several devices and then wrapped.
        """
        devices = {*(getattr(self.hf, "hf_device_map", None) or {}).values()}
        if self._source is None and len(devices) > 1:
            raise CircuitsError(
                f"{self.name}: it is spread over several devices, and cannot be handed on to "
                "workers so; load it from its source: HookedModel.from_pretrained(..., weights=)"
            )
        maker = self._source or FromMemory(self.hf, self._tokenizer, self.name, self.gguf)
        return CheckedRecipe(self.name, self.fingerprint, maker)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        reason = self._no_tokenizer or f"{self.name}: it was loaded without a tokenizer"
        return required(self._tokenizer, reason)

    @property
    def layout(self) -> Layout:
        """Names of nodes and edges."""
        return self.view.layout

    @property
    def device(self) -> torch.device:
        """Where the weights are; of a model on several devices, where its parts come together."""
        return home(self.hf)

    @property
    def d_vocab(self) -> int:
        """Number of token ids that can be embedded."""
        weight = self.hf.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight.shape[0]

    @property
    def n_ctx(self) -> int | None:
        """Most positions that the model can read, if its configuration says so."""
        return context_window(self.hf.config)

    @property
    def longrope_window(self) -> int | None:
        """Tokens up to which LongRoPE turns a text by its short factors; None without LongRoPE.

        It looks at the longest text of a batch: texts from both sides never share one.
        """
        return longrope_window(self.hf.config)

    def validate(self, pairs: PairSet) -> None:
        """Refuse pairs that the model cannot read, and log a line where they lack its begin token.

        Args:
            pairs: what is to be run.

        Raises:
            InputError: for the first such pair, by its source.
        """
        pairs.validate(
            d_vocab=self.d_vocab,
            n_ctx=self.n_ctx,
            encoder_decoder=self.layout.n_encoder_layers > 0,
        )
        if missing := self.missing_begin(pairs):
            say(str(missing))

    def missing_begin(self, pairs: PairSet) -> MissingBegin | None:
        """Which prompts lack the begin token of this model.

        Args:
            pairs: what is to be run.

        Returns:
            How many, and of which token; None where nothing is missing.
        """
        prompts = [pair.clean for pair in pairs]
        return begin.missing_begin(self.hf.config, self._tokenizer, prompts)

    @property
    def dtype_name(self) -> str:
        """What the model computes in: "float32"."""
        return str(self.hf.dtype).removeprefix("torch.")

    @property
    def quantisation(self) -> str | None:
        """How its weights are kept, with what version ("bitsandbytes 0.50.2 nf4"); None if they are
        the numbers that it computes with.
        """
        return quantisation(self.hf)

    @cached_property
    def weight_bytes(self) -> int:
        """Memory that the weights take."""
        tensors = (*self.hf.parameters(), *self.hf.buffers())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @cached_property
    def fingerprint(self) -> str:
        """BLAKE2 over the names and bytes of all weights."""
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(self.hf.state_dict()):
            owner, _, leaf = name.rpartition(".")
            tensor = tensor_of(self.hf.get_submodule(owner), leaf)
            if tensor is None:
                continue
            digest.update(name.encode())
            digest.update(tensor.contiguous().cpu().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def model_inputs(
        self, tokens: Int[Tensor, "batch pos"], batch: PairBatch, prefix: Prefix | None = None
    ) -> ModelInputs:
        """What the model is given for a batch, by architecture.

        Args:
            tokens: the batch's clean or corrupted ids.
            batch: where its answers are read.
            prefix: what `share_prefix` cut off from the batch.

        Returns:
            Arguments of the model's forward, and where its logits are read.
        """
        if self.layout.n_encoder_layers:
            return encoder_decoder(tokens, batch, self.hf.config)
        return decoder_only(tokens, batch, prefix)

    def share_prefix(self, batch: PairBatch) -> tuple[PairBatch, Prefix | None]:
        """Run the positions that a batch's prompts share once, and cut them off.

        Args:
            batch: clean and corrupted prompts.

        Returns:
            The batch without those positions, and their keys and values. (batch, None) where there
            is nothing to gain, for encoders, which look ahead, and for texts behind LongRoPE's
            threshold, whose start alone would be turned by other factors.
        """
        length = 0 if self.layout.n_encoder_layers else shared_length(batch, self.longrope_window)
        if not length:
            return batch, None
        with torch.no_grad():
            past = self.hf.base_model(
                input_ids=batch.clean[:, :length], past_key_values=DynamicCache(), use_cache=True
            ).past_key_values
        layers = tuple((layer.keys, layer.values) for layer in past.layers)
        return drop_prefix(batch, length), Prefix(length, layers)

    def logits(
        self,
        tokens: Int[Tensor, "batch pos"],
        batch: PairBatch,
        hooks: Hooks | None = None,
        prefix: Prefix | None = None,
        *,
        last_layer_at_answers: bool = False,
        recompute: bool = False,
    ) -> Float[Tensor, "read vocab"]:
        """Run the model; the unembedding sees the answer positions alone.

        So the cost of a large vocabulary is paid for each answer position and not for each token.

        Args:
            tokens: the batch's clean or corrupted ids.
            batch: where its answers are read.
            hooks: edits and recordings during this run.
            prefix: what `share_prefix` cut off from the batch.
            last_layer_at_answers: run the last layer at the answer positions alone, where that
                saves anything; hooks then see zeros, and what comes of them, at its other
                positions.
            recompute: run all layers but the last again in the backward pass, and keep only what
                goes into each until then; `hooks` are called both times.

        Returns:
            float32 logits, one row for each answer position of the batch.
        """
        hooks = hooks or Hooks()
        inputs = self.model_inputs(tokens, batch, prefix)
        unembedding: nn.Module = self.hf.get_output_embeddings()
        gather = Hooks()
        gather.before(unembedding, lambda x: x[inputs.example_index, inputs.position][None])
        tail = self.view.tail if last_layer_at_answers else ()
        with (
            hooks,
            gather,
            sparse_last_layer(tail, len(batch), inputs.example_index, inputs.position),
            recomputed(self.view.recomputable, hooks) if recompute else nullcontext(),
        ):
            logits: Tensor = self.hf(**inputs.arguments).logits
        return logits[0].float().to(self.device)

    @cached_property
    def nonlinear(self) -> NonlinearParts:
        """What of the model a backward pass may treat otherwise (`models/backward`)."""
        return NonlinearParts.of(self)

    @cached_property
    def bridge(self) -> TransformerBridge:
        """TransformerLens's bridge on a twin of the model that shares its weights.

        Raises CircuitsError where there can be none, and where it computes other logits.
        """
        return bridge_of(self.hf, self._tokenizer, self.name)


@contextmanager
def _as_unsupported(hf: PreTrainedModel, name: str) -> Iterator[None]:
    """Whatever is raised while a view is made and proved says that the model does not fit it; of
    quantised weights, that they are.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, RuntimeError) and out_of_memory(error):
            raise
        if kind := quantisation(hf):
            raise UnsupportedError(
                f"{name}: its weights are quantised ({kind}), and what is kept is not what its "
                "layers compute with; load it unquantised, or give what its dequantize() returns"
            ) from error
        if isinstance(error, CircuitsError):
            raise
        raise UnsupportedError(
            f"{type(hf).__name__}: it is not supported: its residual-stream view could not be "
            f"proved ({type(error).__name__}: {first_sentence(error)})"
        ) from error
