"""Patching sweeps as one self-contained page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from circuits.format import MISSING, count, general, interval, signed
from circuits.intervention.patching import SITES, Patching
from circuits.intervention.patching.result import DIRECTIONS
from circuits.plot.figures.patching import Effect, patching_height, patching_plot
from circuits.report.blocks import Block, Figure, Method, Note, Section, StatCard, StatCards, Table
from circuits.report.document import document
from circuits.runtime.files import write_text
from circuits.statistics import FEW
from circuits.statistics.estimate import Estimates

_TOP = 12
_SHARES = {"denoise": "recovered", "noise": "lost"}
_PATHS = {
    True: "In what the receiver reads, the sender's output comes from the other run. Every "
    "other head and MLP is frozen.",
    False: "The receiver reads what it would read if the sender's output came from the other "
    "run. All other heads are frozen; MLPs between the two are recomputed.",
}


def write_patching(patching: Patching, path: str | Path, title: str, subtitle: str = "") -> None:
    """Write a sweep as HTML: the unpatched runs, the figure, the sites that matter most."""
    write_patchings({"What each patch does": patching}, path, title, subtitle)


def write_patchings(
    patchings: Mapping[str, Patching], path: str | Path, title: str, subtitle: str = ""
) -> None:
    """Write several sweeps as one page, a section each, by the section's title."""
    chapters = [
        (Section(f"patching-{number}", name, ()), list(blocks(patching)))
        for number, (name, patching) in enumerate(patchings.items(), start=1)
    ]
    write_text(path, document(title, subtitle, chapters))


def blocks(patching: Patching) -> Iterator[Block]:
    """The unpatched runs, the figure, and the sites that matter most."""
    yield StatCards([_tile(patching, metric) for metric in patching.metrics])
    for metric in patching.metrics:
        if line := doubt(patching, metric):
            yield Note(f"{line}.")
    yield Figure(
        caption=f"{_about(patching)}, n = {count(patching.n)}. 0 means as without the patch. "
        + (
            "1 means as in the other run. Hover for 95 % intervals over examples."
            if any(patching.undefined(metric) is None for metric in patching.metrics)
            else ""
        ),
        views={metric: patching_plot(patching, metric) for metric in patching.metrics},
        height=patching_height(patching),
        chosen=patching.metrics[0],
        method=Method(
            steps=(
                _SWEEP if patching.freeze_mlps is None else _PATHS[patching.freeze_mlps],
                *_STEPS,
            ),
            formula="recovery = (patched - corrupted) / (clean - corrupted), lost = 1 - recovery",
            settings=_settings(patching),
            source=_SOURCE,
        ),
    )
    views = {
        metric: _rows(patching, metric)
        for metric in patching.metrics
        if not patching.undefined(metric)
    }
    if views:
        yield Table(
            caption=f"The {_TOP} patches that matter most, with 95 % intervals over examples."
            if len(next(iter(views.values()))) == _TOP
            else "All patches, with 95 % intervals over examples.",
            head=("", _SHARES[patching.direction], "interval", "metric", "n"),
            views=views,
            chosen=next(iter(views)),
        )


def doubt(patching: Patching, metric: str) -> str | None:
    """Why a metric has no recovery, or one that says little; None where neither is so."""
    if (error := patching.undefined(metric)) is not None:
        return str(error)
    gap = patching.gap(metric)
    if gap.n == 1 or gap.excludes_zero:
        return None
    caveat = f"which n = {gap.n} examples cannot distinguish from 0"
    return (
        f"recovery is a share of a gap that may be 0: {metric} differs by "
        f"{gap.value:.4g} [{gap.low:.4g}, {gap.high:.4g}] between clean and corrupted, "
        + (caveat if gap.n < FEW else "so this model does not distinguish these prompts")
    )


_SWEEP = (
    "At each site, the activation of one run replaces that of the other, and everything after "
    "it is recomputed. Nothing is approximated."
)
_STEPS = (
    "Numerator and denominator are means over examples. Intervals are bias-corrected and "
    "accelerated bootstrap intervals over examples.",
)
_SOURCE = (
    "Meng et al. 2022, arXiv:2202.05262; Wang et al. 2022, arXiv:2211.00593; Zhang and Nanda 2023, "
    "arXiv:2309.16042."
)


def _about(patching: Patching) -> str:
    direction = DIRECTIONS[patching.direction]
    if patching.site == "path":
        return f"Paths: {direction}, along one edge or set of edges at a time"
    return f"{SITES[patching.site].about[0].upper()}{SITES[patching.site].about[1:]}: {direction}"


def _tile(patching: Patching, metric: str) -> StatCard:
    clean, corrupted = (
        float(patching.clean[metric].mean()),
        float(patching.corrupted[metric].mean()),
    )
    return StatCard(
        f"{general(clean)} → {general(corrupted)}", metric, f"clean → corrupted, n = {patching.n}"
    )


def _rows(patching: Patching, metric: str) -> list[tuple[str, ...]]:
    estimates = Effect.of(patching, metric).estimates
    cells = Estimates(
        estimates.value.flatten(), estimates.low.flatten(), estimates.high.flatten(), estimates.n
    )
    means = patching.mean(metric).flatten()
    examples = (~patching.values[metric].isnan()).sum(dim=0).flatten()
    return [
        (
            patching.name(index),
            signed(cells[index].value),
            interval(cells[index]) if examples[index] > 1 else MISSING,
            general(float(means[index])),
            count(int(examples[index])),
        )
        for index in patching.ranked(metric)[:_TOP]
    ]


def _settings(patching: Patching) -> dict[str, str]:
    """What was patched, and the model and data that it was patched on."""
    values: dict[str, object] = {} if patching.spec is None else asdict(patching.spec)
    if patching.freeze_mlps is not None:
        values["freeze_mlps"] = patching.freeze_mlps
    model, data = patching.provenance.model, patching.provenance.data
    if model is not None:
        values["model"] = f"{model.name} ({model.architecture}, {model.precision})"
    if data is not None:
        values["data"] = f"{data.task}, {data.split}, n = {data.n}"
    return {name: _setting(value) for name, value in values.items() if value is not None}


def _setting(value: object) -> str:
    if isinstance(value, tuple) and len(value) > 12:
        return f"{value[0]} … {value[-1]} ({len(value)})"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
