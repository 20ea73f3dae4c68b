"""The residual stream cut into named spaces: what a written model says, and where it says it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError


def combined(
    weights: Float[Tensor, "row thing"], vectors: Float[Tensor, "thing d_model"]
) -> Float[Tensor, "row d_model"]:
    """Sums of vectors, the same bits each time.

    The last bits of a float32 product depend on where in memory its numbers lie; of a float64 one
    they are rounded off.

    Args:
        weights: of each vector in each row.
        vectors: of a space.

    Returns:
        weights @ vectors.
    """
    return (weights.double() @ vectors.double()).float()


class Spaces:
    """Named runs of orthonormal vectors, one for each thing that a space can say.

    `spaces["token"][i]` says that the token is i. The vectors are drawn at random, so that no
    number of the stream means something by itself, and add up to 0 each, so that the centring of
    LayerNorm changes nothing. What is left of the stream is `waste`: vectors that no part of the
    circuit reads.
    """

    def __init__(self, sizes: Mapping[str, int], d_model: int, seed: int) -> None:
        """Draw the vectors.

        Args:
            sizes: how many things each space can say, by its name.
            d_model: width of the stream.
            seed: of the draw.

        Raises:
            CircuitsError: where the stream is too narrow.
        """
        if (total := sum(sizes.values())) + 2 > d_model:
            raise CircuitsError(f"a stream of width {d_model} has no room for {total} vectors")
        draw = torch.randn(
            d_model, d_model, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        draw[:, 0] = 1
        vectors = torch.linalg.qr(draw).Q.T[1:].float()
        named, self.waste = vectors[:total], vectors[total:]
        self.circuit = named
        self._spaces = dict(zip(sizes, named.split(list(sizes.values())), strict=True))

    def __getitem__(self, name: str) -> Float[Tensor, "thing d_model"]:
        rows: Tensor = self._spaces[name]
        return rows
