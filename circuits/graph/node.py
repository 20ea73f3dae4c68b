"""Nodes: names taken apart, and where attentions and MLPs stand in the score matrix.

What the names mean, `circuits.graph.layout` says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from circuits.errors import CircuitsError

Kind = Literal["input", "bias", "head", "mlp", "logits"]
Port = Literal["q", "k", "v"]
PORTS: tuple[Port, ...] = ("q", "k", "v")
_ENDS: tuple[Kind, ...] = ("input", "bias", "logits")

_NAME = re.compile(
    r"(?P<encoder>enc\.)?(?:"
    r"(?P<attention>[ax])(?P<layer>\d+)\.(?:h|kv)(?P<head>\d+)(?:<(?P<port>[qkv])>)?"
    r"|m(?P<mlp>\d+)|(?P<end>input|bias|logits))"
)


@dataclass(frozen=True)
class Node:
    """A source or a reader, taken apart.

    layer, head: None where there is none (`input`, `logits`; MLPs have no head).
    port: q, k or v for a head's reader; then `head` counts KV heads for k and v.
    encoder: whether it belongs to an encoder-decoder's encoder. cross: to cross-attention.
    """

    name: str
    kind: Kind
    layer: int | None = None
    head: int | None = None
    port: Port | None = None
    encoder: bool = False
    cross: bool = False

    @classmethod
    def parse(cls, name: str) -> Node:
        """Read a node's name.

        Args:
            name: as in "a5.h3", "a5.h3<q>", "m11" or "logits".

        Returns:
            The node.

        Raises:
            CircuitsError: for an unknown form.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise CircuitsError(
                f"{name!r} is not a node; nodes are input, a5.h3, a5.h3<q>, a5.kv1<k>, m11, "
                "logits, and of an encoder-decoder enc.a5.h3, x5.h3 (cross-attention), ..."
            )
        encoder = match["encoder"] is not None
        for end in _ENDS:
            if match["end"] == end:
                return cls(name, end, encoder=encoder)
        if match["mlp"] is not None:
            return cls(name, "mlp", int(match["mlp"]), encoder=encoder)
        port = next((port for port in PORTS if port == match["port"]), None)
        layer, head = int(match["layer"]), int(match["head"])
        return cls(name, "head", layer, head, port, encoder, match["attention"] == "x")


@dataclass(frozen=True)
class AttentionPlace:
    """Where an attention's heads write and read.

    rows: of its heads. columns: of its q, k and v readers. layer, encoder, cross: which it is.
    """

    rows: slice
    columns: tuple[slice, slice, slice]
    layer: int
    encoder: bool
    cross: bool

    @property
    def prefix(self) -> str:
        """What its nodes' names begin with: a3, enc.a3, x3."""
        return f"{'enc.' if self.encoder else ''}{'x' if self.cross else 'a'}{self.layer}"


@dataclass(frozen=True)
class MLPPlace:
    """Where an MLP writes and reads."""

    row: int
    column: int
    layer: int
    encoder: bool

    @property
    def name(self) -> str:
        """Its node's name: m3, enc.m3."""
        return f"{'enc.' if self.encoder else ''}m{self.layer}"
