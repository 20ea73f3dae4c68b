"""What each head attends to: how much of its attention goes to the keys that make a head type.

| head type | queries | keys |
|---|---|---|
| previous-token | every position but the first | the position before |
| self | the same | the position itself |
| first-token | the same | the first position (an attention sink: Xiao et al. 2023) |
| key positions, by name | from the first of them on | given positions: beginnings of sentences |
| answer | where the answer is predicted | tokens of the right answer in the text so far |
| induction | second copy of random tokens | after the token's first copy (Olsson et al. 2022) |
| duplicate-token | the same | the token's first copy (Wang et al. 2022) |

*Mass* is the attention given to those keys, a mean over the type's queries; *chance* is what
uniform attention over the text so far would give. A head **is of a type** when its mass exceeds
chance by more than `THRESHOLD`, at the lower end of the 95 % interval of the mean over documents
(over random sequences, for the last two). A document without such a query is left out of the type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.runtime.result_file import MaybeUndefined, Record
from circuits.statistics.estimate import Estimates, mean_estimates
from tasks.pairs import PairBatch

THRESHOLD = 0.4
"""Attention beyond chance that makes a type. A convention: heads between .2 and .4 are mixed."""

SEQUENCES, REPEATED = 20, 25
"""Random sequences for the induction types, and the tokens that each repeats once."""

KeyPositions = Mapping[str, Sequence[Sequence[int]]]
"""Key positions by name, for each pair of a set."""

Sample = Literal["documents", "random sequences"]

_OFFSETS = {"previous-token": 1, "self": 0}
_PREFIX = "head types."


@dataclass(frozen=True)
class HeadTypeKeys:
    """Which keys make which head type, seen from which queries, in a batch of texts.

    offsets: types whose key stands so many positions before the query.
    key_names, keys: types whose keys are the same for all queries; 1 where a position is a key.
    weights: of each query in its type's mean, offsets first; a row sums to 1, or to 0 where the
        text has no such query.
    answer_positions: example index, query, weight; answer_keys: the keys of each. The answer type.
    chance: mass under uniform attention, by text and type in the order of `names`.
    """

    offsets: Mapping[str, int]
    key_names: tuple[str, ...]
    keys: Float[Tensor, "batch keyed pos"]
    weights: Float[Tensor, "batch type pos"]
    answer_positions: tuple[
        Int[Tensor, " answer"], Int[Tensor, " answer"], Float[Tensor, " answer"]
    ]
    answer_keys: Bool[Tensor, "answer pos"]
    chance: Float[Tensor, "batch named"]

    @property
    def names(self) -> tuple[str, ...]:
        """All head types, in the order of `mass`."""
        return (*self.offsets, *self.key_names, "answer")

    @cached_property
    def defined(self) -> Bool[Tensor, "batch named"]:
        """Whether a text has a query of the type."""
        example_index, _, weight = self.answer_positions
        answers = torch.zeros(len(self.chance), 1, device=weight.device)
        answers.index_add_(0, example_index, weight[:, None])
        return torch.cat([self.weights.sum(dim=-1), answers], dim=1) > 0

    def mass(
        self, p: Float[Tensor, "batch head query key"], rows: slice
    ) -> Float[Tensor, "batch head named"]:
        """What these queries add to every type's mass."""
        stop = p.shape[-1]
        weights = self.weights[..., rows]
        masses = []
        for column, offset in enumerate(self.offsets.values()):
            on = p.diagonal(rows.start - offset, dim1=-2, dim2=-1)  # batch head query'
            skipped = max(0, offset - rows.start)
            weight = weights[:, column, skipped : skipped + on.shape[-1]]
            masses.append((on * weight[:, None]).sum(dim=-1))
        # First the mean over queries, then the sum over keys: one pass over the pattern.
        keyed = weights[:, len(self.offsets) :]
        attended = keyed[:, None] @ p  # batch head keyed key
        sums = (attended * self.keys[:, None, :, :stop]).sum(dim=-1)
        masses += sums.unbind(dim=-1)
        masses.append(self._answer(p, rows))
        return torch.stack(masses, dim=-1)

    def _answer(
        self, p: Float[Tensor, "batch head query key"], rows: slice
    ) -> Float[Tensor, "batch head"]:
        batch, query, weight = self.answer_positions
        in_block = (query >= rows.start) & (query < rows.stop)
        total = p.new_zeros(p.shape[:2])
        if in_block.any():
            patterns = p[batch[in_block], :, query[in_block] - rows.start]  # answer head key
            mass = torch.einsum(
                "rhk,rk->rh", patterns, self.answer_keys[in_block, : p.shape[-1]].float()
            )
            total.index_add_(0, batch[in_block], mass * weight[in_block, None])
        return total

    @classmethod
    def of_text(cls, batch: PairBatch, key_positions: KeyPositions) -> HeadTypeKeys:
        """The head types of a batch's prompts, answers included as far as they are fed."""
        size, length = batch.clean.shape
        device = batch.clean.device
        position = torch.arange(length, device=device)
        keys = {"first-token": (position == 0).expand(size, length)}
        for name, positions in key_positions.items():
            marks = torch.zeros(size, length, dtype=torch.bool)
            for row, index in enumerate(batch.index.tolist()):
                marks[row, [p for p in positions[index] if p < length]] = True
            keys[name] = marks.to(device) & batch.mask
        queries = torch.stack(
            [(position > 0).expand(size, length)] * len(_OFFSETS)
            + [(position > 0) & (marks.cumsum(dim=1) > 0) for marks in keys.values()],
            dim=1,
        )
        ids = batch.clean[batch.example_index]
        answer_keys = (ids[:, :, None] == batch.answer[:, None]).any(dim=-1)  # read pos
        answer_keys &= position <= batch.position[:, None]
        return cls._of(_OFFSETS, keys, queries & batch.mask[:, None], batch, answer_keys)

    @classmethod
    def of_repeated(cls, batch: PairBatch) -> HeadTypeKeys:
        """The induction types, for texts that are one sequence twice."""
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
        queries: Bool[Tensor, "batch type pos"],
        batch: PairBatch,
        answer_keys: Bool[Tensor, "answer pos"],
    ) -> HeadTypeKeys:
        size, _, length = queries.shape
        visible = torch.arange(1, length + 1, device=queries.device).float()
        weights = queries / queries.sum(dim=-1, keepdim=True).clamp_min(1)
        indicator = torch.zeros(size, len(keys), length, device=queries.device)
        for column, marks in enumerate(keys.values()):
            indicator[:, column] = marks
        single = torch.ones(size, len(offsets), length, device=queries.device)
        uniform = torch.cat([single, indicator.cumsum(dim=-1)], dim=1) / visible
        chance = (uniform * weights).sum(dim=-1)
        has = answer_keys.any(dim=1)
        answer_positions = torch.zeros(size, device=has.device)
        answer_positions.index_add_(0, batch.example_index, has.float())
        weight = has / answer_positions[batch.example_index].clamp_min(1)
        share = weight * answer_keys.sum(dim=1) / (batch.position + 1)
        answers = torch.zeros(size, device=has.device).index_add_(0, batch.example_index, share)
        return cls(
            offsets,
            tuple(keys),
            indicator,
            weights,
            (batch.example_index, batch.position, weight),
            answer_keys,
            torch.cat([chance, answers[:, None]], dim=1),
        )


class HeadType(Record):
    """The attention that goes to one head type's keys in two models, and which heads are of it.

    sample: what n counts. chance: mass under uniform attention. threshold: attention beyond chance
    that makes the type. model, base, change: mean mass by layer and head; change is model less
    base. heads, heads_base: heads of this type in the model and in the base, largest mass first.
    gained, lost: heads of this type in one of the models only whose change excludes 0.
    """

    name: str
    sample: Sample
    chance: MaybeUndefined
    threshold: float
    model: Estimates
    base: Estimates
    change: Estimates
    heads: tuple[str, ...]
    heads_base: tuple[str, ...]
    gained: tuple[str, ...]
    lost: tuple[str, ...]

    @property
    def n(self) -> int:
        """Documents, or random sequences, that have a query of this type."""
        return self.model.n


@dataclass(frozen=True)
class HeadMasses:
    """One head type's mass in two models, by document or random sequence.

    chance: mass under uniform attention. sample: what the first axis counts.
    """

    model: Float[Tensor, "n layer head"]
    base: Float[Tensor, "n layer head"]
    chance: Float[Tensor, " n"]
    sample: Sample = "documents"

    def __len__(self) -> int:
        return len(self.model)

    def head_type(self, name: str, *, n_resamples: int = 1000, seed: int = 0) -> HeadType:
        """Means with their intervals, and the heads that are of the type."""
        means = partial(mean_estimates, n_resamples=n_resamples, seed=seed)
        chance = self.chance[:, None, None]
        change = means(self.model.double() - self.base.double())
        heads = _above_threshold(means(self.model.double() - chance))
        heads_base = _above_threshold(means(self.base.double() - chance))
        rose, fell = _names(change.low > 0), _names(change.high < 0)
        return HeadType(
            name=name,
            sample=self.sample,
            chance=float(self.chance.mean()),
            threshold=THRESHOLD,
            model=means(self.model),
            base=means(self.base),
            change=change,
            heads=heads,
            heads_base=heads_base,
            gained=tuple(head for head in heads if head not in heads_base and head in rose),
            lost=tuple(head for head in heads_base if head not in heads and head in fell),
        )


def _above_threshold(excess: Estimates) -> tuple[str, ...]:
    """Heads whose mass exceeds chance by enough, largest excess first."""
    enough = _names(excess.low > THRESHOLD)
    order = excess.value.flatten().argsort(descending=True, stable=True).tolist()
    names = (head_name(index, excess.value.shape[1]) for index in order)
    return tuple(name for name in names if name in enough)


def _names(heads: Bool[Tensor, "layer head"]) -> frozenset[str]:
    width = heads.shape[1]
    indices = heads.flatten().nonzero()[:, 0].tolist()
    return frozenset(head_name(index, width) for index in indices)


@dataclass
class MassCollector:
    """Masses as batches bring them; n x head types x layers x heads numbers are kept."""

    n: int
    sample: Sample = "documents"
    names: tuple[str, ...] = ()
    _kept: dict[str, Tensor] = field(default_factory=dict)

    def add(
        self,
        keys: HeadTypeKeys,
        index: Int[Tensor, " batch"],
        model: Float[Tensor, "batch layer head named"],
        base: Float[Tensor, "batch layer head named"],
    ) -> None:
        """Add a batch; `index` says where its texts stand in the set."""
        self.names = keys.names
        batch = {"model": model, "base": base, "chance": keys.chance, "defined": keys.defined}
        for name, values in batch.items():
            if name not in self._kept:
                shape = (self.n, *values.shape[1:])
                self._kept[name] = torch.zeros(shape, dtype=values.dtype)
            self._kept[name][index.cpu()] = values.cpu()

    def state(self) -> dict[str, Tensor]:
        """All that was added, by name."""
        names = torch.tensor(list(json.dumps(self.names).encode()), dtype=torch.uint8)
        tensors = {f"{_PREFIX}{name}": tensor for name, tensor in self._kept.items()}
        return {f"{_PREFIX}names": names, **tensors}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, if anything."""
        tensors = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
        if tensors:
            self.names = tuple(json.loads(bytes(tensors.pop("names").tolist())))
            self._kept.update(tensors)

    def masses(self) -> dict[str, HeadMasses]:
        """Of every head type that at least two texts have a query of."""
        masses = {}
        for column, name in enumerate(self.names):
            texts = self._kept["defined"][:, column]
            if int(texts.sum()) < 2:
                continue
            masses[name] = HeadMasses(
                self._kept["model"][texts, ..., column],
                self._kept["base"][texts, ..., column],
                self._kept["chance"][texts, column],
                self.sample,
            )
        return masses


def head_name(index: int, n_heads: int) -> str:
    """The name of the head at an index of the flattened (layer, head) table."""
    return f"a{index // n_heads}.h{index % n_heads}"
