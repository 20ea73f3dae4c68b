"""Writing the weights of a transformer part by part.

The weights start at zero. Heads and neurons that a construction does not use are then filled with
random numbers: they read everything and write into the stream's `waste`, so they are active, differ
between prompts, read one another, and reach no logit. With `interference` they write that share of
their output into the circuit's own spaces, in random directions: a superposition from which every
edge gets some effect, as in a trained model.

Norms are kept out of the way by an epsilon far above the stream's variance, with weights that undo
it: what is read is then linear in the stream to about one part in ten million. (Compilers such as
Tracr leave norms out; here the architecture stays as it is.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from circuits.known.model import DrawPair, KnownModel
from circuits.known.setting import Setting
from circuits.known.spaces import Spaces, combined
from circuits.models import HookedModel

SHARP = 12.0
"""Attention logit of what a head looks for, above all else."""
LOUD = 10.0
"""Logit of the token that the space `out` names."""
NORM_EPSILON = 1e6
_IDLE_SHARPNESS = 2.0  # standard deviation of idle heads' attention logits, about
_IDLE_READ = 0.5  # of a stream of four unit vectors idle parts read numbers of about 1

Rows = Float[Tensor, "_ d_model"]
Sought = Float[Tensor, "sought d_model"]
Copied = Float[Tensor, "copied d_model"]
Neurons = Float[Tensor, "neuron d_model"]


class Writer(ABC):
    """A model under construction. Each head and each MLP's neurons are written at most once.

    Attributes:
        hf: the model; its weights are zeros until they are written.
        spaces: what its stream can say.
        n_layers, n_heads, d_head, n_neurons: its sizes.
    """

    hf: Any

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        layers: int,
        heads: int,
        d_head: int,
        neurons: int,
        d_model: int,
        seed: int,
    ) -> None:
        self.spaces = Spaces(sizes, d_model, seed)
        self.n_layers, self.n_heads, self.d_head = layers, heads, d_head
        self.n_neurons = neurons
        self._draw = torch.Generator().manual_seed(seed + 1)
        self._heads: set[tuple[int, int]] = set()
        self._neurons: dict[int, int] = {}

    # -- what an architecture says

    @abstractmethod
    def _set_head(
        self, layer: int, head: int, query: Rows, key: Rows, value: Rows, output: Rows
    ) -> None:
        """Write one head: attention logits (query x) . (key y), output value -> output."""

    @abstractmethod
    def _set_idle_neurons(self, layer: int, taken: slice, read: Neurons, write: Neurons) -> None:
        """Write some of a layer's neurons: a function of `read` x, along `write`."""

    @abstractmethod
    def _multiply_queries(self, factor: float) -> None:
        """Multiply what every head looks for, its bias too."""

    @abstractmethod
    def _kv_heads(self, layer: int, head: int) -> list[tuple[int, int]]:
        """The heads that share this one's keys and values, itself among them."""

    # -- what a construction says

    def head(
        self, layer: int, head: int, *, query: Sought, key: Sought, value: Copied, output: Copied
    ) -> None:
        """A head that looks from what row i of `query` says for what row i of `key` says.

        Args:
            layer: from 0.
            head: of the layer, from 0.
            query: read at the position that looks; its scale is that of the attention logits.
            key: read at the positions that are looked at.
            value: what is copied from there, row by row.
            output: what each row of `value` is written as.
        """
        self._heads.add((layer, head))
        self._set_head(layer, head, query, key, value, output)

    def finish(
        self,
        setting: Setting,
        name: str,
        description: str,
        edges: Mapping[str, str],
        draw: DrawPair,
        *,
        metric: str = "logit-difference",
        hidden: Mapping[str, frozenset[str]] | None = None,
    ) -> KnownModel:
        """Fill what was not written, and say what the model is.

        Args:
            setting: how much idle parts write into the circuit's spaces, and how sharp attention
                is.
            name: as `load` takes it.
            description: the task and the mechanism, in a sentence.
            edges: what each edge of the circuit carries.
            draw: makes the pair of a row.
            metric: the metric of the pairs.
            hidden: as of `KnownModel`.

        Returns:
            The model with its edges.
        """
        self._fill(setting)
        model = HookedModel(self.hf, None, f"known/{name}")
        return KnownModel(name, description, model, edges, draw, metric, hidden or {})

    def _take(self, layer: int, n: int) -> slice:
        """The next n neurons of a layer."""
        first = self._neurons.get(layer, 0)
        self._neurons[layer] = first + n
        return slice(first, first + n)

    def _fill(self, setting: Setting) -> None:
        """Make what was not written active and irrelevant, or nearly so."""
        interference = setting.interference
        shared = {one for used in self._heads for one in self._kv_heads(*used)}
        for layer in range(self.n_layers):
            for head in range(self.n_heads):
                if (layer, head) not in self._heads:
                    self._idle_head(layer, head, interference, shared=(layer, head) in shared)
            n = self.n_neurons - self._neurons.get(layer, 0)
            write = self._idle_writes(n, interference) * n**-0.5
            read = _IDLE_READ * self._random(n)
            self._set_idle_neurons(layer, self._take(layer, n), read, write)
        self._multiply_queries(setting.sharpness)

    def _idle_head(self, layer: int, head: int, interference: float, *, shared: bool) -> None:
        n = self.d_head
        keys = self._random(n) * (_IDLE_SHARPNESS * n**-0.5)
        value = _IDLE_READ * self._random(n)
        write = self._idle_writes(n, interference) * n**-0.5
        if shared:  # its keys and values are the circuit's: it has a query and an output of its own
            keys, value = keys[:0], value[:0]
        self._set_head(layer, head, self._random(n), keys, value, write)

    def _idle_writes(self, n: int, interference: float) -> Rows:
        waste, circuit = self.spaces.waste, self.spaces.circuit
        inside = nn.functional.normalize(combined(self._normal(n, len(waste)), waste), dim=1)
        return inside + interference * nn.functional.normalize(
            combined(self._normal(n, len(circuit)), circuit), dim=1
        )

    def _random(self, n: int) -> Rows:
        """Rows whose product with a unit vector is about standard normal."""
        every = torch.cat([self.spaces.circuit, self.spaces.waste])
        return combined(self._normal(n, len(every)), every)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._draw)
