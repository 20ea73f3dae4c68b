"""Options that verbs share, and what they turn into."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli.flags import Given, Without
from circuits.cli.steps import step
from circuits.errors import CircuitsError
from circuits.options.choices import ScoredPairs
from circuits.options.declared import Options, narrowed
from circuits.options.engine import EngineOptions, RayEngine
from circuits.options.model import LoadOptions
from circuits.options.run import RunOptions
from tasks.named_splits import Split

if TYPE_CHECKING:
    from circuits.evaluation import TaskPerformance
    from circuits.graph import Provenance
    from circuits.models import HookedModel
    from tasks.pairs import PairSet
    from tasks.skipping import Skipped
    from tasks.task import Task

Out = Annotated[Path, typer.Option(help="Folder to write into.")]
ScoredModel = Annotated[
    str | None, typer.Option(help="The model (default: the one that the scores were made from).")
]
ScoredTask = Annotated[
    str | None,
    typer.Option("--task", help="The task (default: the scores' own, with its file and options)."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
Run = Annotated[RunOptions, Without("progress", "recompute")]
"""Batches and seed; the verb adds progress from --quiet, by `running`."""
AsOnePlainModel = Without("dtype", "quantize", "device_map", "max_memory")
"""Of models that are trained: their weights are plain float32, on one device."""
Engine = Annotated[Given[EngineOptions], Without("start_timeout")]
"""Where batches are worked on; the verb adds it to its run, by `engine_of`."""


def read_size(text: str) -> int:
    """The number of edges, nodes or neurons that --size says."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise typer.BadParameter(
            f"{text} is no number of edges, nodes or neurons: write a whole number of at least 1 "
            "(a share of all is --fraction of `circuits select` and `circuits evaluate`)"
        )
    return int(text)


@dataclass(frozen=True, kw_only=True)
class DataOptions(Options):
    """Where a task's examples come from.

    Attributes:
        data: The task's file, for tasks that read one (its `path` option).
        task_option: Another option of the task, key=value; may be repeated.
        skip_bad_rows: Leave out rows of a file or data set that cannot be used, and list them in
            skipped.json.
        n: How many pairs (default: all of a file, or 100).
    """

    data: Path | None = None
    task_option: list[str] | None = None
    skip_bad_rows: bool = False
    n: ScoredPairs | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """Options of the task as text, --skip-bad-rows among them."""
        return (*(self.task_option or ()), *(["skip=true"] if self.skip_bad_rows else ()))


@dataclass(frozen=True, kw_only=True)
class TaskOptions(DataOptions):
    """A task, and where its examples come from.

    Attributes:
        task: Task name; see `circuits tasks`.
        split: Part of the examples (default: all rows of a file, or validation).
    """

    task: str
    split: Split | None = None


def running(run: RunOptions, quiet: bool) -> RunOptions:
    """The options of a run, with progress bars unless --quiet."""
    return replace(run, progress=not quiet)


def engine_of(flags: Given[EngineOptions]) -> RayEngine | None:
    """The engine that was asked for; its other flags are refused without --engine."""
    options = flags.make()
    if options.engine is not None:
        return narrowed(options, RayEngine)
    if flags.values:
        flag = next(iter(flags.values)).replace("_", "-")
        raise CircuitsError(f"--{flag} is about workers; it goes with --engine ray")
    return None


def load_task(name: str, source: DataOptions) -> Task:
    """The task of that name, as --data, --task-option and --skip-bad-rows describe it."""
    import tasks
    from tasks.registry import option_types

    if source.skip_bad_rows and "skip" not in tasks.options(name):
        raise CircuitsError(f"--skip-bad-rows: task {name!r} makes its prompts and reads no rows")
    types = option_types(name)
    options: dict[str, object] = {} if source.data is None else {"path": source.data}
    for option in source.given:
        key, equals, value = option.partition("=")
        if not equals:
            raise CircuitsError(f"--task-option {option!r}: write key=value, as in corruption=swap")
        options[key] = _read(key, value, types.get(key, ("str",)))
    return tasks.load(name, **options)


_TYPES: dict[str, tuple[str, Callable[[str], object]]] = {
    "bool": ("true or false", {"true": True, "false": False}.__getitem__),
    "int": ("a whole number", int),
    "float": ("a number", float),
}


def _read(key: str, text: str, types: tuple[str, ...]) -> object:
    """An option's value from its text, which is the value where the option takes text."""
    readers = [_TYPES[name] for name in types if name in _TYPES]
    if "bool" in types and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if "str" in types or not readers:
        return text
    if "None" in types and text == "null":
        return None
    kind, read = readers[0]
    try:
        return read(text.lower())
    except (KeyError, ValueError) as error:
        raise CircuitsError(f"--task-option {key}={text}: {key} is {kind}") from error


def load_pairs(
    task: Task,
    model: HookedModel,
    n: int | None,
    split: Split | None,
    seed: int,
    *,
    most: int | None = None,
) -> PairSet:
    """Pairs of the task for the model. Without a split or a number, all rows of a file.

    most: take as many as there are, up to this number.
    """
    from tasks.most import most_pairs
    from tasks.splits import check

    reads_file = getattr(task, "path", None) is not None
    part = check(split or ("all" if reads_file else "validation"))
    if most is None:
        make: Callable[..., PairSet] = task.pairs  # a task that reads rows takes n=None too
        number = n if n is not None or reads_file else 100
        pairs = make(model.tokenizer, n=number, split=part, seed=seed, n_ctx=model.n_ctx)
    else:
        pairs = most_pairs(task, model.tokenizer, n=most, split=part, seed=seed, n_ctx=model.n_ctx)
    say_skipped(pairs.skipped, len(pairs))
    return pairs


def split_of(made_from: Provenance) -> Split | None:
    """The split that scores were made from, as far as they say."""
    from tasks.splits import check

    return None if made_from.data is None else check(made_from.data.split)


def unseen_split(made_from: Provenance, *, reads_file: bool | None = None) -> Split:
    """A split that scores were not made from; all of a file, if they were made from all.

    reads_file: whether pairs come from one; None asks the scores.
    """
    scored, task = made_from.data, made_from.task
    split = None if scored is None else scored.split
    if reads_file is None:
        reads_file = task is not None and task.data is not None
    if reads_file and split in ("all", None):
        return "all"
    return "validation" if split == "test" else "test"


def say_skipped(skipped: Sequence[Skipped], n_kept: int) -> None:
    """Say how many rows were kept and how many left out, and why."""
    from tasks.skipping import described

    if skipped:
        typer.echo(f"warning: {n_kept} rows kept, {described(skipped)}", err=True)


def write_skipped(out: Path, skipped: Sequence[Skipped]) -> list[Path]:
    """Write skipped.json, the rows that were left out; without any there is none, nor an older."""
    from circuits.runtime.files import write_json

    file = out / "skipped.json"
    file.unlink(missing_ok=True)
    if not skipped:
        return []
    write_json(file, [asdict(row) for row in dict.fromkeys(skipped)])
    return [file]


def check_task(
    model: HookedModel,
    pairs: PairSet,
    *,
    metric: str | None,
    required: float | None,
    run: RunOptions,
) -> TaskPerformance:
    """Say whether the model does the task at all, before the expensive part; stop if it must."""
    from circuits.evaluation import task_performance

    with step("trying the task"):
        performance = task_performance(
            model, pairs, metric=metric, options=replace(run, progress=False)
        )
    for line in performance.lines():
        typer.echo(line, err=line.startswith("warning"))
    if required is not None:
        performance.require_accuracy(required)
    return performance


def warn_of_seen(pairs: PairSet, fingerprints: Iterable[str], how: str) -> None:
    """Say how many of the pairs were scored (searched) on before."""
    if shared := pairs.shared(fingerprints):
        typer.echo(
            f"warning: {shared} of the {len(pairs)} pairs were {how}; figures on unseen examples "
            "would be lower",
            err=True,
        )


def warn_of_scored(made_from: Provenance, pairs: PairSet) -> None:
    """Say whether pairs were scored on, as far as the scores say."""
    if made_from.pairs is not None:
        warn_of_seen(pairs, made_from.pairs, "scored on")


def require_writable(out: Path, *, file: bool = False) -> None:
    """Refuse, before the work, a folder (or file) that its result cannot be written to.

    Leaves nothing behind: what is missing is made when there is something to write.
    """
    if file and out.is_dir():
        raise CircuitsError(f"{out}: a folder; give a file")
    folder = out.absolute().parent if file else out.absolute()
    existing = next(parent for parent in (folder, *folder.parents) if os.path.lexists(parent))
    if not existing.is_dir():
        raise CircuitsError(f"{out}: cannot be written to ({existing} is no folder)")
    try:
        with TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise CircuitsError(f"{out}: cannot be written to ({error.strerror})") from error


def load_hooked(source: str, loading: LoadOptions) -> HookedModel:
    """The model, loaded as the options say, without the loader's own bars."""
    from circuits.models import HookedModel, WeightLoading

    silence_libraries()
    with step(f"loading {Path(source).name}"):
        return HookedModel.from_pretrained(
            source,
            tokenizer=loading.tokenizer,
            device=loading.device,
            dtype=loading.dtype,
            weights=WeightLoading.of(loading),
        )


def silence_libraries() -> None:
    """Keep other libraries' bars and advice out of the output."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def echo_outputs(*paths: Path) -> None:
    """Say where the result is."""
    for path in paths:
        typer.echo(f"wrote {path}")
