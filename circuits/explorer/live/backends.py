"""What a server works on: a run folder, a model and a task's pairs, or all of them."""

from __future__ import annotations

from pathlib import Path

from circuits.explorer.contents import Json, layout_contents, run_contents
from circuits.explorer.live.desk import Backend
from circuits.explorer.live.jobs import Worker
from circuits.explorer.live.task_runs import TaskRuns
from circuits.models import HookedModel
from circuits.runs import RunFolder
from tasks.pairs import PairSet


def backend_of(
    *,
    run: RunFolder | None = None,
    model: HookedModel | None = None,
    pairs: PairSet | None = None,
    missing: tuple[str, ...] = (),
) -> Backend:
    """Make ready what a server works on.

    Args:
        run: a run folder; its circuits are shown.
        model: what answers clicks; None shows the run alone.
        pairs: of the task; circuits are measured on them.
        missing: what could not be had, in sentences that the page shows.

    Returns:
        The data, the model, and a worker of its own.

    Raises:
        CircuitsError: where a file of the run is broken, or the pairs do not fit the model.
    """
    contents: Json
    if run is not None:
        contents = run_contents(run, f"Circuits of {run.name}", _subtitle(model, pairs))
    else:
        assert model is not None
        contents = {
            "title": f"Circuits of {Path(model.name).name}",
            "subtitle": _subtitle(model, pairs),
            "model": {"name": model.name, "fingerprint": model.fingerprint},
            "layout": layout_contents(model.layout),
            "checkpoints": [],
            "changes": [],
            "example": None,
            "missing": ["There are no scores yet: run prompts, and score their edges."],
        }
    reasons = contents["missing"]
    assert isinstance(reasons, list)
    contents["missing"] = [*reasons, *missing]
    return Backend(
        contents,
        Worker(),
        model,
        None if model is None or pairs is None else TaskRuns(model, pairs),
        "" if model is None else f"circuits.HookedModel.from_pretrained({model.name!r})",
    )


def _subtitle(model: HookedModel | None, pairs: PairSet | None) -> str:
    facts = [] if model is None else [f"{Path(model.name).name}, {model.layout.summary}"]
    if pairs is not None:
        facts.append(f"{len(pairs)} pairs of {pairs.task}")
    return " · ".join(facts)
