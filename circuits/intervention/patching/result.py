"""What a sweep found: values for each example and site, and the share of the gap they recover.

recovery = (value - corrupted) / (clean - corrupted), each the mean over examples: 1 is the clean
run's behaviour, 0 the corrupted run's, in both directions of patching. It may lie outside of 0..1.
Intervals are 95 % bias-corrected and accelerated bootstrap intervals over examples, resampled
together above and below the line. Where clean and corrupted agree there is no such share:
`Patching.undefined` says so, and `recovery` raises it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import TypeAdapter, model_validator
from torch import Tensor

from circuits.errors import CircuitsError, UndefinedMetricError
from circuits.graph import Provenance
from circuits.options.choices import Direction
from circuits.options.patching import PatchSpec
from circuits.runtime.display import Plotted
from circuits.runtime.result_file import AsList, ResultFile
from circuits.statistics import bca_interval, mean_interval, resample_weights
from circuits.statistics.estimate import Estimate, Estimates

if TYPE_CHECKING:
    import pandas as pd


DIRECTIONS: dict[Direction, str] = {
    "denoise": "activations of the clean run are put into the corrupted run",
    "noise": "activations of the corrupted run are put into the clean run",
}
_CELLS = 2**22  # resamples x cells held at once
_DERIVED = ("gaps", "recoveries")
"""What a file says besides the fields, for those who read it elsewhere."""


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
class Recovery(Estimates):
    """The share of the gap for each site, in the shape of the sweep, with its 95 % interval.

    NaN where no example has the site, or those that do have no gap between them. Of one example,
    low and high equal the value.

    n: examples in all. examples: how many of them have the site.
    """

    examples: Annotated[Int[Tensor, "*axes"], AsList(torch.int64)]


class Patching(Plotted, ResultFile):
    """Metrics of the patched runs.

    site: a name from `SITES`, or "path". axes: those that were swept.
    values: by metric, (example, *axes), float64, in the metric's units; NaN where an example has no
        such position.
    clean, corrupted: by metric, one number an example, of the runs without a patch.
    metrics: their names, the one that was asked for first in front.
    spec: what was patched, of a sweep over sites. freeze_mlps: of path patching, whether MLPs
        between sender and receiver kept their base output.
    provenance: model, data and versions.
    """

    KIND: ClassVar[str] = "patching"

    site: str
    direction: Direction
    axes: tuple[Axis, ...]
    values: dict[str, Annotated[Float[Tensor, "example ..."], AsList()]]
    clean: dict[str, Annotated[Float[Tensor, " example"], AsList()]]
    corrupted: dict[str, Annotated[Float[Tensor, " example"], AsList()]]
    metrics: tuple[str, ...] = ()
    spec: PatchSpec | None = None
    freeze_mlps: bool | None = None
    provenance: Provenance = Provenance()

    @model_validator(mode="before")
    @classmethod
    def _of_file(cls, content: dict[str, object]) -> dict[str, object]:
        """Fields alone, with the order of the metrics, which a file's mappings do not keep."""
        fields = {name: value for name, value in content.items() if name not in _DERIVED}
        values = fields.get("values")
        return {"metrics": tuple(values) if isinstance(values, Mapping) else (), **fields}

    def to_json(self) -> dict[str, object]:
        """The fields, and by metric the gap between clean and corrupted, and the recovery."""
        recoveries = {
            name: None if self.undefined(name) else self.recovery(name) for name in self.metrics
        }
        gaps = {name: self.gap(name) for name in self.metrics}
        return {
            **super().to_json(),
            "gaps": _GAPS.dump_python(gaps, mode="json"),
            "recoveries": _RECOVERIES.dump_python(recoveries, mode="json"),
        }

    def _facts(self) -> dict[str, str]:
        axes = " x ".join(f"{len(axis.values)} {axis.name}s" for axis in self.axes)
        return {
            "site": f"{self.site}, {self.direction}",
            "swept": axes or "one patch",
            "metric": f"{self.metrics[0]}, gap {self.gap()}, {self.n} examples",
        }

    def to_frame(self, metric: str | None = None) -> pd.DataFrame:
        """Every patch, a row each, those that matter most first.

        Args:
            metric: its name; None is the first.

        Returns:
            Columns site, recovery, low, high (shares of the gap), value (in the metric's units),
            examples. Recovery is NaN throughout where clean and corrupted agree.
        """
        import pandas as pd

        means = self.mean(metric).flatten()
        undefined = self.undefined(metric) is not None
        nothing = torch.full_like(means, math.nan)
        recovery = Estimates(nothing, nothing, nothing, self.n)
        if not undefined:
            recovery = self.recovery(metric)
        order = list(range(means.numel())) if undefined else self.ranked(metric)
        n_examples = (~self.values[self._metric(metric)].isnan()).sum(dim=0).flatten()
        columns = {
            "recovery": recovery.value.flatten(),
            "low": recovery.low.flatten(),
            "high": recovery.high.flatten(),
            "value": means,
            "examples": n_examples,
        }
        rows = {name: column[order].tolist() for name, column in columns.items()}
        return pd.DataFrame({"site": [self.name(index) for index in order], **rows})

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.clean[self.metrics[0]])

    def mean(self, metric: str | None = None) -> Float[Tensor, "*axes"]:
        """Mean value over the examples that have the site, in the metric's units.

        Args:
            metric: one of the sweep's; None takes the first.

        Returns:
            One value for each site.
        """
        return self.values[self._metric(metric)].nanmean(dim=0)

    def gap(self, metric: str | None = None) -> Estimate:
        """Clean minus corrupted, the mean over examples: what recovery is a share of.

        Args:
            metric: its name; None is the first.

        Returns:
            The gap with its 95 % interval; a single example has none.
        """
        name = self._metric(metric)
        gap = self.clean[name] - self.corrupted[name]
        low, high = math.nan, math.nan
        if len(gap) > 1:
            weights = resample_weights(len(gap), 1000, seed=0)
            low, high = (float(end) for end in mean_interval(gap[:, None], weights))
        return Estimate(float(gap.mean()), low, high, len(gap))

    def undefined(self, metric: str | None = None) -> UndefinedRecoveryError | None:
        """The error that `recovery` raises; None where this metric has a recovery.

        Args:
            metric: one of the sweep's; None takes the first.

        Returns:
            The error, or None.
        """
        name = self._metric(metric)
        clean, corrupted = self.clean[name].mean(), self.corrupted[name].mean()
        if not _equal(clean, corrupted):
            return None
        return UndefinedRecoveryError(
            f"recovery is not defined: {name} is {float(clean):.6g} on the clean prompts and "
            f"{float(corrupted):.6g} on the corrupted ones; the corruption changes nothing that "
            "the metric sees"
        )

    def recovery(
        self, metric: str | None = None, *, n_resamples: int = 1000, seed: int = 0
    ) -> Recovery:
        """The share of the gap that each patch recovers (denoise) or leaves (noise).

        Args:
            metric: its name; None is the first.
            n_resamples: bootstrap resamples of the examples.
            seed: of the resamples.

        Returns:
            (value - corrupted) / (clean - corrupted) for each site, in the shape of the sweep.

        Raises:
            UndefinedRecoveryError: if clean and corrupted agree.
        """
        name = self._metric(metric)
        if (error := self.undefined(name)) is not None:
            raise error
        values = self.values[name]
        shape = values.shape[1:]
        weights = resample_weights(len(values), n_resamples, seed=seed)
        width = max(1, _CELLS // max(weights.shape))
        parts = [
            _ratio(part, self.clean[name], self.corrupted[name], weights)
            for part in values.flatten(1).split(width, dim=1)
        ]
        value, low, high = (torch.cat(pieces).view(shape) for pieces in zip(*parts, strict=True))
        return Recovery(value, low, high, len(values), (~values.isnan()).sum(dim=0))

    def ranked(self, metric: str | None = None) -> list[int]:
        """Indices into the flattened sweep, those that matter most in front.

        Those that recover most when denoising, those that leave least when noising.

        Args:
            metric: one of the sweep's; None takes the first.

        Returns:
            Indices of all sites.
        """
        recovery = self.recovery(metric).value.flatten()
        sign = 1 if self.direction == "denoise" else -1
        order = (sign * recovery).nan_to_num(nan=-math.inf).argsort(descending=True, stable=True)
        return [index for index in order.tolist() if not recovery[index].isnan()]

    def top(self, n: int = 10, metric: str | None = None) -> list[tuple[str, float]]:
        """The n sites that matter most, with their recovery.

        Args:
            n: how many.
            metric: one of the sweep's; None takes the first.

        Returns:
            Names and recoveries.
        """
        recovery = self.recovery(metric).value.flatten()
        return [(self.name(index), float(recovery[index])) for index in self.ranked(metric)[:n]]

    def name(self, index: int) -> str:
        """A site in words, by its index into the flattened sweep.

        Args:
            index: into the flattened sweep.

        Returns:
            Its name.
        """
        along = torch.unravel_index(
            torch.tensor(index), tuple(len(axis.values) for axis in self.axes)
        )
        words = [] if self.site == "path" else [self.site]
        for axis, i in zip(self.axes, along, strict=True):
            number = f"{axis.values[int(i)]} " if axis.name == "position" else ""
            words.append(f"{number}{axis.labels[int(i)]}")
        return ", ".join(words)

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
    defined = ~values.isnan()
    above = (values - corrupted[:, None]).where(defined, 0.0)
    below = (clean - corrupted)[:, None].where(defined, 0.0)
    clean, corrupted = (
        end[:, None].where(defined, 0.0).sum(dim=0) / defined.sum(dim=0)
        for end in (clean, corrupted)
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


_GAPS = TypeAdapter(dict[str, Estimate])
_RECOVERIES = TypeAdapter(dict[str, Recovery | None])
