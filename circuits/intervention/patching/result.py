"""What a sweep found: values for each example and site, and the share of the gap they recover.

recovery = (value - corrupted) / (clean - corrupted), each the mean over examples: 1 is the clean
run's behaviour, 0 the corrupted run's, in both directions of patching. It may lie outside of 0..1.
Intervals are 95 % bias-corrected and accelerated bootstrap intervals over examples, resampled
together above and below the line. Where clean and corrupted agree there is no such share:
`Patching.undefined` says so, and `recovery` raises it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.errors import CircuitsError, UndefinedMetricError, error_context
from circuits.runtime.files import read_json, require_known, write_json
from circuits.statistics import FEW, bca_interval, mean_interval, resample_weights

DIRECTIONS = {
    "denoise": "activations of the clean run are put into the corrupted run",
    "noise": "activations of the corrupted run are put into the clean run",
}
_RECORD = ("site", "direction", "axes", "order", "metrics", "details")
_METRIC = ("clean", "corrupted", "values", "undefined", "caution", "recovery")
_CELLS = 2**22  # resamples x cells held at once


class UndefinedRecoveryError(UndefinedMetricError):
    """Clean and corrupted runs have the same metric, so no share of the gap exists."""


@dataclass(frozen=True)
class Axis:
    """One axis of a sweep: "layer", "head", "KV head", "neuron", "position" or "path".

    values: layer, unit or position numbers; positions counted from an end are negative.
    labels: the same in words; a position's is its token.
    """

    name: str
    values: tuple[int, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Recovery:
    """The share of the gap for each site, in the shape of the sweep.

    NaN where no example has the site, or those that do have no gap between them.

    low, high: 95 % interval; equal to the value when there is one example.
    n: how many examples have the site.
    """

    value: Float[Tensor, "*axes"]
    low: Float[Tensor, "*axes"]
    high: Float[Tensor, "*axes"]
    n: Int[Tensor, "*axes"]


@dataclass(frozen=True)
class Patching:
    """Metrics of the patched runs.

    values: by metric, (example, *axes), float64; NaN where an example has no such position.
    clean, corrupted: by metric, one number an example, of the runs without a patch.
    direction: a name from `DIRECTIONS`. details: all settings of the sweep.
    """

    site: str
    direction: str
    axes: tuple[Axis, ...]
    values: dict[str, Float[Tensor, "example ..."]]
    clean: dict[str, Float[Tensor, " example"]]
    corrupted: dict[str, Float[Tensor, " example"]]
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, the one that was asked for first in front."""
        return tuple(self.values)

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.clean[self.metrics[0]])

    def mean(self, metric: str | None = None) -> Float[Tensor, "*axes"]:
        """Mean value over the examples that have the site, in the metric's units."""
        return self.values[self._metric(metric)].nanmean(dim=0)

    def undefined(self, metric: str | None = None) -> str | None:
        """Why there is no recovery of this metric; None where there is."""
        name = self._metric(metric)
        clean, corrupted = self.clean[name].mean(), self.corrupted[name].mean()
        if not _equal(clean, corrupted):
            return None
        return (
            f"recovery is not defined: {name} is {float(clean):.6g} on the clean prompts and "
            f"{float(corrupted):.6g} on the corrupted ones; the corruption changes nothing that "
            "the metric sees"
        )

    def caution(self, metric: str | None = None) -> str | None:
        """Why a recovery that is defined says little: the interval of the gap holds 0. None where
        it does not, or where a single example has no interval.
        """
        name = self._metric(metric)
        gap = self.clean[name] - self.corrupted[name]
        if len(gap) == 1 or self.undefined(name):
            return None
        low, high = (
            float(end)
            for end in mean_interval(gap[:, None], resample_weights(len(gap), 1000, seed=0))
        )
        if not low <= 0 <= high:
            return None
        few = f"which cannot be told apart from 0 with n = {len(gap)} examples"
        return (
            f"the gap that recovery is a share of may be nothing: {name} differs by "
            f"{float(gap.mean()):.4g} [{low:.4g}, {high:.4g}] between clean and corrupted, "
            + (few if len(gap) < FEW else "so this model does not tell these prompts apart")
        )

    def recovery(
        self, metric: str | None = None, *, n_resamples: int = 1000, seed: int = 0
    ) -> Recovery:
        """The share of the gap that each patch recovers (denoise) or leaves (noise)."""
        name = self._metric(metric)
        if reason := self.undefined(name):
            raise UndefinedRecoveryError(reason)
        values = self.values[name]
        shape = values.shape[1:]
        weights = resample_weights(len(values), n_resamples, seed=seed)
        width = max(1, _CELLS // max(weights.shape))
        parts = [
            _ratio(part, self.clean[name], self.corrupted[name], weights)
            for part in values.flatten(1).split(width, dim=1)
        ]
        value, low, high = (torch.cat(one).view(shape) for one in zip(*parts, strict=True))
        return Recovery(value, low, high, (~values.isnan()).sum(dim=0))

    def ranked(self, metric: str | None = None) -> list[int]:
        """Places in the flattened sweep, those that matter most in front.

        Those that recover most when denoising, those that leave least when noising.
        """
        recovery = self.recovery(metric).value.flatten()
        sign = 1 if self.direction == "denoise" else -1
        order = (sign * recovery).nan_to_num(nan=-math.inf).argsort(descending=True, stable=True)
        return [place for place in order.tolist() if not recovery[place].isnan()]

    def top(self, n: int = 10, metric: str | None = None) -> list[tuple[str, float]]:
        """The n sites that matter most, with their recovery."""
        recovery = self.recovery(metric).value.flatten()
        return [(self.name(place), float(recovery[place])) for place in self.ranked(metric)[:n]]

    def name(self, place: int) -> str:
        """A site in words, by its place in the flattened sweep."""
        index = torch.unravel_index(
            torch.tensor(place), tuple(len(axis.values) for axis in self.axes)
        )
        words = [] if self.site == "path" else [self.site]
        for axis, at in zip(self.axes, index, strict=True):
            number = f"{axis.values[int(at)]} " if axis.name == "position" else ""
            words.append(f"{number}{axis.labels[int(at)]}")
        return ", ".join(words)

    def save(self, path: str | Path) -> None:
        """Write JSON: every setting, every value, and recovery with its interval."""
        metrics = {}
        for name in self.metrics:
            metrics[name] = {
                "clean": self.clean[name].tolist(),
                "corrupted": self.corrupted[name].tolist(),
                "values": _plain(self.values[name]),
                "undefined": self.undefined(name),
                "caution": self.caution(name),
                "recovery": None if self.undefined(name) else self._summary(name),
            }
        record = {
            "site": self.site,
            "direction": self.direction,
            "axes": [vars(axis) for axis in self.axes],
            "order": list(self.metrics),
            "metrics": metrics,
            "details": self.details,
        }
        write_json(path, record)

    @classmethod
    def load(cls, path: str | Path) -> Patching:
        """Read what `save` wrote; a key that this version does not know is refused by name."""
        record = read_json(path)
        try:
            with error_context(str(path)):
                _require_known(record)
            axes = tuple(
                Axis(axis["name"], tuple(axis["values"]), tuple(axis["labels"]))
                for axis in record["axes"]
            )
            kept = {
                part: {
                    name: torch.tensor(_numbers(record["metrics"][name][part])).double()
                    for name in record["order"]
                }
                for part in ("values", "clean", "corrupted")
            }
            return cls(record["site"], record["direction"], axes, **kept, details=record["details"])
        except CircuitsError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CircuitsError(
                f"{path}: not a file written by Patching.save ({type(error).__name__}: {error})"
            ) from error

    def _summary(self, name: str) -> dict[str, Any]:
        found = self.recovery(name)
        return {part: _plain(value) for part, value in vars(found).items()}

    def _metric(self, name: str | None) -> str:
        if name is None:
            return self.metrics[0]
        if name not in self.values:
            raise CircuitsError(
                f"no metric {name!r} in this sweep; it has {', '.join(self.values)}"
            )
        return name


def _ratio(
    values: Float[Tensor, "n k"],
    clean: Float[Tensor, " n"],
    corrupted: Float[Tensor, " n"],
    weights: Float[Tensor, "resample n"],
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Recovery of each column over the examples that have it, with its interval."""
    there = ~values.isnan()
    above = (values - corrupted[:, None]).where(there, 0.0)
    below = (clean - corrupted)[:, None].where(there, 0.0)
    clean, corrupted = (
        end[:, None].where(there, 0.0).sum(dim=0) / there.sum(dim=0) for end in (clean, corrupted)
    )
    estimate = above.sum(dim=0) / below.sum(dim=0)
    estimate = estimate.masked_fill(_equal(clean, corrupted), torch.nan)
    if len(values) == 1:
        return estimate, estimate, estimate
    replicates = _share(weights @ above, weights @ below, estimate)
    left_out = _share(above.sum(dim=0) - above, below.sum(dim=0) - below, estimate)
    low, high = bca_interval(estimate, replicates, left_out.mean(dim=0) - left_out)
    gone = estimate.isnan()
    return estimate, low.masked_fill(gone, torch.nan), high.masked_fill(gone, torch.nan)


def _equal(clean: Float[Tensor, "*k"], corrupted: Float[Tensor, "*k"]) -> Bool[Tensor, "*k"]:
    """Whether two means of a metric differ by rounding only, so that nothing is a share of it."""
    largest = torch.maximum(clean.abs(), corrupted.abs()).clamp_min(1e-6)
    return (clean - corrupted).abs() <= 1e-6 * largest


def _share(
    above: Float[Tensor, "m k"], below: Float[Tensor, "m k"], estimate: Float[Tensor, " k"]
) -> Float[Tensor, "m k"]:
    """The ratio; a resample that drew no example with the site says nothing, so the estimate."""
    empty: Bool[Tensor, "m k"] = below == 0
    return torch.where(empty, estimate, above / below)


def _plain(values: Tensor) -> Any:
    """Nested lists with None for what is not finite, as JSON has it."""
    return _swap(values.tolist(), lambda x: x if math.isfinite(x) else None)


def _numbers(values: Any) -> Any:
    return _swap(values, lambda x: math.nan if x is None else x)


def _swap(values: Any, change: Any) -> Any:
    if isinstance(values, Sequence):
        return [_swap(value, change) for value in values]
    return change(values)


def _require_known(record: Any) -> None:
    """Refuse what a file says beyond what is read of it, and a metric that it gives no place."""
    require_known(record, _RECORD)
    require_known(record["metrics"], record["order"])
    for axis in record["axes"]:
        require_known(axis, [field.name for field in fields(Axis)])
    for metric in record["metrics"].values():
        require_known(metric, _METRIC)
        require_known(metric.get("recovery") or {}, [field.name for field in fields(Recovery)])
