"""What each head attends to: how much of its attention goes to the keys that make a role.

| role | queries | keys |
|---|---|---|
| previous-token | every position but the first | the position before |
| self | the same | the position itself |
| first-token | the same | the first position (an attention sink: Xiao et al. 2023) |
| landmarks, by name | from the first landmark on | given positions: beginnings of sentences |
| answer | where the answer is predicted | tokens of the right answer in the text so far |
| induction | second copy of random tokens | after the token's first copy (Olsson et al. 2022) |
| duplicate-token | the same | the token's first copy (Wang et al. 2022) |

*Mass* is the attention given to those keys, a mean over the role's queries; *chance* is what
uniform attention over the text so far would give. A head **has a role** when its mass exceeds
chance by more than `THRESHOLD`, at the lower end of the 95 % interval of the mean over documents
(over random sequences, for the last two). A document without such a query is left out of the role.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.model_diff.averages import Averages, averages
from circuits.runtime.files import number
from tasks.pairs import PairBatch

THRESHOLD = 0.4
"""Attention beyond chance that makes a role. A convention: heads between .2 and .4 are mixed."""

SEQUENCES, REPEATED = 20, 25
"""Random sequences for the induction roles, and the tokens that each repeats once."""

KeyPositions = Mapping[str, Sequence[Sequence[int]]]
"""Key positions by name, for each pair of a set."""

_OFFSETS = {"previous-token": 1, "self": 0}


@dataclass(frozen=True)
class HeadTypeKeys:
    """Which keys make which role, seen from which queries, in a batch of texts.

    offsets: roles whose key stands so many positions before the query.
    key_names, keys: roles whose keys are the same for all queries; 1 where a position is one.
    weights: of each query in its role's mean, offsets first; a row sums to 1, or to 0 where the
        text has no such query.
    reads: example index, query, weight; read_keys: the keys of each. The answer role.
    chance: mass under uniform attention, by text and role in the order of `names`.
    """

    offsets: Mapping[str, int]
    key_names: tuple[str, ...]
    keys: Float[Tensor, "batch keyed pos"]
    weights: Float[Tensor, "batch role pos"]
    answer_positions: tuple[Int[Tensor, " read"], Int[Tensor, " read"], Float[Tensor, " read"]]
    read_keys: Bool[Tensor, "read pos"]
    chance: Float[Tensor, "batch named"]

    @property
    def names(self) -> tuple[str, ...]:
        """All roles, in the order of `mass`."""
        return (*self.offsets, *self.key_names, "answer")

    @cached_property
    def defined(self) -> Bool[Tensor, "batch named"]:
        """Whether a text has a query of the role."""
        example_index, _, weight = self.answer_positions
        answers = torch.zeros(len(self.chance), 1, device=weight.device)
        answers.index_add_(0, example_index, weight[:, None])
        return torch.cat([self.weights.sum(dim=-1), answers], dim=1) > 0

    def mass(
        self, p: Float[Tensor, "batch head query key"], rows: slice
    ) -> Float[Tensor, "batch head named"]:
        """What these queries add to every role's mass."""
        stop = p.shape[-1]
        weights = self.weights[..., rows]
        found = []
        for place, offset in enumerate(self.offsets.values()):
            on = p.diagonal(rows.start - offset, dim1=-2, dim2=-1)  # batch head query'
            skipped = max(0, offset - rows.start)
            weight = weights[:, place, skipped : skipped + on.shape[-1]]
            found.append((on * weight[:, None]).sum(dim=-1))
        # First the mean over queries, then the sum over keys: one pass over the pattern.
        keyed = weights[:, len(self.offsets) :]
        attended = keyed[:, None] @ p  # batch head keyed key
        sums = (attended * self.keys[:, None, :, :stop]).sum(dim=-1)
        found += sums.unbind(dim=-1)
        found.append(self._answer(p, rows))
        return torch.stack(found, dim=-1)

    def _answer(
        self, p: Float[Tensor, "batch head query key"], rows: slice
    ) -> Float[Tensor, "batch head"]:
        batch, query, weight = self.answer_positions
        here = (query >= rows.start) & (query < rows.stop)
        total = p.new_zeros(p.shape[:2])
        if here.any():
            patterns = p[batch[here], :, query[here] - rows.start]  # read head key
            mass = torch.einsum("rhk,rk->rh", patterns, self.read_keys[here, : p.shape[-1]].float())
            total.index_add_(0, batch[here], mass * weight[here, None])
        return total

    @classmethod
    def of_text(cls, batch: PairBatch, key_positions: KeyPositions) -> HeadTypeKeys:
        """The roles of the prompts of a batch, answers included as far as they are fed."""
        size, length = batch.clean.shape
        device = batch.clean.device
        places = torch.arange(length, device=device)
        keys = {"first-token": (places == 0).expand(size, length)}
        for name, positions in key_positions.items():
            marks = torch.zeros(size, length, dtype=torch.bool)
            for row, index in enumerate(batch.index.tolist()):
                marks[row, [place for place in positions[index] if place < length]] = True
            keys[name] = marks.to(device) & batch.mask
        queries = torch.stack(
            [(places > 0).expand(size, length)] * len(_OFFSETS)
            + [(places > 0) & (marks.cumsum(dim=1) > 0) for marks in keys.values()],
            dim=1,
        )
        ids = batch.clean[batch.example_index]
        read_keys = (ids[:, :, None] == batch.answer[:, None]).any(dim=-1)  # read pos
        read_keys &= places <= batch.position[:, None]
        return cls._of(_OFFSETS, keys, queries & batch.mask[:, None], batch, read_keys)

    @classmethod
    def of_repeated(cls, batch: PairBatch) -> HeadTypeKeys:
        """The induction roles, for texts that are one sequence twice."""
        size, length = batch.clean.shape
        half = length // 2
        offsets = {"induction": half - 1, "duplicate-token": half}
        second = torch.arange(length, device=batch.clean.device) >= half
        queries = second.expand(size, 2, length)
        none = torch.zeros(len(batch.example_index), length, dtype=torch.bool, device=second.device)
        return cls._of(offsets, {}, queries, batch, none)

    @classmethod
    def _of(
        cls,
        offsets: Mapping[str, int],
        keys: Mapping[str, Tensor],
        queries: Bool[Tensor, "batch role pos"],
        batch: PairBatch,
        read_keys: Bool[Tensor, "read pos"],
    ) -> HeadTypeKeys:
        size, _, length = queries.shape
        visible = torch.arange(1, length + 1, device=queries.device).float()
        weights = queries / queries.sum(dim=-1, keepdim=True).clamp_min(1)
        indicator = torch.zeros(size, len(keys), length, device=queries.device)
        for place, marks in enumerate(keys.values()):
            indicator[:, place] = marks
        single = torch.ones(size, len(offsets), length, device=queries.device)
        uniform = torch.cat([single, indicator.cumsum(dim=-1)], dim=1) / visible
        chance = (uniform * weights).sum(dim=-1)
        has = read_keys.any(dim=1)
        answer_positions = torch.zeros(size, device=has.device)
        answer_positions.index_add_(0, batch.example_index, has.float())
        weight = has / answer_positions[batch.example_index].clamp_min(1)
        share = weight * read_keys.sum(dim=1) / (batch.position + 1)
        answers = torch.zeros(size, device=has.device).index_add_(0, batch.example_index, share)
        return cls(
            offsets,
            tuple(keys),
            indicator,
            weights,
            (batch.example_index, batch.position, weight),
            read_keys,
            torch.cat([chance, answers[:, None]], dim=1),
        )


@dataclass(frozen=True)
class HeadType:
    """One role's mass in two models, by document or random sequence.

    chance: mass under uniform attention. unit: what the first axis counts.
    """

    name: str
    mass: Float[Tensor, "n layer head"]
    mass_base: Float[Tensor, "n layer head"]
    chance: Float[Tensor, " n"]
    unit: str = "documents"
    n_resamples: int = 1000
    seed: int = 0

    def __len__(self) -> int:
        return len(self.mass)

    @cached_property
    def model(self) -> Averages:
        """Mean mass in the model."""
        return self._averages(self.mass)

    @cached_property
    def base(self) -> Averages:
        """Mean mass in the model that it is held against."""
        return self._averages(self.mass_base)

    @cached_property
    def change(self) -> Averages:
        """Model less against."""
        return self._averages(self.mass.double() - self.mass_base.double())

    @cached_property
    def heads(self) -> tuple[str, ...]:
        """Heads of the model that have the role, largest mass first."""
        return self._having(self.mass)

    @cached_property
    def heads_base(self) -> tuple[str, ...]:
        """Heads of the other model that have the role."""
        return self._having(self.mass_base)

    @property
    def gained(self) -> tuple[str, ...]:
        """Heads that have the role in the model alone, and whose mass changed for sure."""
        return self._turned(self.heads, self.heads_base, self.change.low > 0)

    @property
    def lost(self) -> tuple[str, ...]:
        """Heads that have the role in the other model alone, and whose mass changed for sure."""
        return self._turned(self.heads_base, self.heads, self.change.high < 0)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "unit": self.unit,
            "n": len(self),
            "chance": number(self.chance.mean()),
            "threshold": THRESHOLD,
            "model": self.model.to_dict(),
            "against": self.base.to_dict(),
            "change": self.change.to_dict(),
            "heads": list(self.heads),
            "heads_base": list(self.heads_base),
            "gained": list(self.gained),
            "lost": list(self.lost),
        }

    def _averages(self, values: Float[Tensor, "n layer head"]) -> Averages:
        return averages(values, n_resamples=self.n_resamples, seed=self.seed)

    def _having(self, mass: Float[Tensor, "n layer head"]) -> tuple[str, ...]:
        excess = self._averages(mass.double() - self.chance[:, None, None])
        order = excess.value.flatten().argsort(descending=True, stable=True)
        sure = (excess.low > THRESHOLD).flatten()
        width = mass.shape[2]
        return tuple(head_name(place, width) for place in order.tolist() if sure[place])

    def _turned(
        self, here: Sequence[str], there: Sequence[str], sure: Bool[Tensor, "layer head"]
    ) -> tuple[str, ...]:
        width = sure.shape[1]
        certain = {head_name(place, width) for place in sure.flatten().nonzero()[:, 0].tolist()}
        return tuple(head for head in here if head not in there and head in certain)


@dataclass
class RoleMasses:
    """Masses as batches bring them in; documents x roles x layers x heads numbers are kept."""

    count: int
    unit: str = "documents"
    names: tuple[str, ...] = ()
    _kept: dict[str, Tensor] = field(default_factory=dict)

    def add(
        self,
        keys: HeadTypeKeys,
        index: Int[Tensor, " batch"],
        model: Float[Tensor, "batch layer head named"],
        base: Float[Tensor, "batch layer head named"],
    ) -> None:
        """Take in a batch; `index` says where its texts stand in the set."""
        self.names = keys.names
        found = {
            "model": model,
            "against": base,
            "chance": keys.chance,
            "defined": keys.defined,
        }
        for name, values in found.items():
            if name not in self._kept:
                shape = (self.count, *values.shape[1:])
                self._kept[name] = torch.zeros(shape, dtype=values.dtype)
            self._kept[name][index.cpu()] = values.cpu()

    def state(self) -> dict[str, Tensor]:
        """All that was taken in, by name."""
        names = torch.tensor(list(json.dumps(self.names).encode()), dtype=torch.uint8)
        return {"roles.names": names, **{f"roles.{name}": v for name, v in self._kept.items()}}

    def restore(self, held: Mapping[str, Tensor]) -> None:
        """Take in what `state` gave, if anything."""
        kept = {k.removeprefix("roles."): v for k, v in held.items() if k.startswith("roles.")}
        if kept:
            self.names = tuple(json.loads(bytes(kept.pop("names").tolist())))
            self._kept.update(kept)

    def roles(self, *, n_resamples: int, seed: int) -> dict[str, HeadType]:
        """Every role that at least two texts have a query of."""
        found = {}
        for place, name in enumerate(self.names):
            texts = self._kept["defined"][:, place]
            if int(texts.sum()) < 2:
                continue
            found[name] = HeadType(
                name,
                self._kept["model"][texts, ..., place],
                self._kept["against"][texts, ..., place],
                self._kept["chance"][texts, place],
                self.unit,
                n_resamples,
                seed,
            )
        return found


def head_name(place: int, heads: int) -> str:
    """The name of the head at a place of the flattened (layer, head) table."""
    return f"a{place // heads}.h{place % heads}"
