"""One self-contained page from a run folder: opens offline, loads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from circuits.format import count, counted
from circuits.report.blocks import Block, Note, Section
from circuits.report.document import document
from circuits.report.run import Run
from circuits.report.sections import (
    circuit,
    comparison,
    completeness,
    doubts,
    explorer,
    faithfulness,
    finetuning,
    key_figures,
    lora,
    lora_circuits,
    minimality,
    model_diff,
    patching,
    performance,
    reliability,
    reproducibility,
    restoration,
    robustness,
    stability,
    summary,
    task,
    trajectory,
)
from circuits.runs import MissingResultError
from circuits.runtime.files import write_text

SECTIONS = (
    Section("summary", "Summary", (key_figures.tiles, summary.findings)),
    Section("task", "The task", (task.example, task.sizes, performance.accuracy)),
    Section("fine-tuning", "Fine-tuning", (finetuning.curves, finetuning.quality)),
    Section("circuits", "Circuits", (circuit.graphs, circuit.heatmaps, circuit.top_edges)),
    Section("explore", "Explore the circuits", (explorer.explorer,)),
    Section(
        "evaluation",
        "Circuit evaluation",
        (
            faithfulness.curves,
            faithfulness.areas,
            minimality.drops,
            completeness.gaps,
            robustness.conditions,
            doubts.ablations,
            doubts.answers,
            stability.resampling,
            reliability.examples,
        ),
    ),
    Section("patching", "Activation patching", (patching.heatmap,)),
    Section(
        "comparison",
        "What fine-tuning changed",
        (
            comparison.similarity,
            comparison.turnover,
            comparison.edges,
            trajectory.strengths,
            trajectory.inclusions,
            trajectory.cross_evaluation,
            model_diff.differences,
            restoration.undone,
        ),
    ),
    Section(
        "lora",
        "Where a LoRA should go",
        (
            lora.scores,
            lora.differences,
            lora.layers,
            lora_circuits.overlap,
            lora_circuits.attention,
            lora_circuits.crossed,
        ),
    ),
    Section(
        "reproducibility",
        "Reproducibility",
        (reproducibility.recipe, reproducibility.environment, reproducibility.fingerprints),
    ),
)


def write_report(
    run_folder: str | Path, *, name: str = "report.html", anchors: Sequence[str] | None = None
) -> Path:
    """Write `report.html` into a run folder, from the folder's files only.

    A file that is missing costs its part of the page, which says so in a line.

    Args:
        run_folder: of `circuits run`.
        name: of the file that is written there.
        anchors: of the sections to show; None shows all.

    Returns:
        The page's path.

    Raises:
        CircuitsError: where a file is broken, or of another schema version; names it.
    """
    run = Run(run_folder)
    path = run.folder / name
    write_text(path, render(run, anchors))
    return path


def render(run: Run, anchors: Sequence[str] | None = None) -> str:
    """The page as HTML. The same files give the same text."""
    omitted = run.omitted_sections
    chapters = [
        (section, list(_blocks(section, run)))
        for section in SECTIONS
        if (section.anchor not in omitted if anchors is None else section.anchor in anchors)
    ]
    return document(*_heading(run), chapters)


def _blocks(section: Section, run: Run) -> Iterator[Block]:
    """All blocks of a section; a part that cannot be made becomes a line that says why."""
    reasons = set()
    for part in section.parts:
        try:
            yield from list(part(run))
        except MissingResultError as error:
            why = str(error)
            if why not in reasons:
                reasons.add(why)
                yield Note(why)


def _heading(run: Run) -> tuple[str, str]:
    """Title and subtitle, from the recipe where there is one."""
    settings = run.settings
    task = settings.get("task")
    if settings.get("model") and isinstance(task, dict) and task:
        model, name = str(settings["model"]), str(task["name"])
        title = f"The circuits behind {name} in {Path(model).name}"
    else:
        title = f"Circuits of {run.name}"
    facts = [f"run {run.name}"]
    if run.order:
        facts.append(f"{counted(len(run.order), 'checkpoint')}: {', '.join(run.order)}")
    try:
        provenance = run.evaluation.provenance
    except MissingResultError:
        provenance = None
    if provenance is not None:
        strategy = f", strategy {provenance.strategy}" if provenance.strategy else ""
        facts.append(f"task {provenance.task}, scores by {provenance.method}{strategy}")
        if other_model := provenance.scores_of_another_model:
            facts.append(f"scores of another model, {other_model}")
    try:
        layout = next(iter(run.scores.values())).layout
        facts.append(f"{layout.summary}, {count(layout.n_edges)} edges")
    except MissingResultError:
        pass
    return title, " · ".join(facts)
