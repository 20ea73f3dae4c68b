"""Options that verbs share, and what they turn into."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from circuits.errors import CircuitsError

if TYPE_CHECKING:
    from circuits.evaluation import TaskPerformance
    from circuits.graph import Provenance
    from circuits.models import HookedModel
    from tasks.pairs import PairSet
    from tasks.skipping import Skipped
    from tasks.task import Task

Model = Annotated[
    str,
    typer.Option(
        help="Hub id (with @revision), local folder, GGUF file, PEFT adapter folder, or one of "
        "newsroom-gpt2, smollm2-135m, gemma3-270m."
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        "--tokenizer", help="Take the tokenizer from here, as --model (default: the model's own)."
    ),
]
TaskName = Annotated[str, typer.Option("--task", help="Task name; see `circuits tasks`.")]
Data = Annotated[
    Path | None, typer.Option(help="The task's file, for tasks that read one (its `path` option).")
]
TaskOptions = Annotated[
    list[str] | None,
    typer.Option("--task-option", help="Another option of the task, key=value; may be repeated."),
]
Skip = Annotated[
    bool,
    typer.Option(
        "--skip-bad-rows",
        help="Leave out rows of a file or data set that cannot be used, and list them in "
        "skipped.json.",
    ),
]
Number = Annotated[
    int | None,
    typer.Option("--n", help="How many pairs (default: all of a file, or 100).", min=1),
]
Out = Annotated[Path, typer.Option(help="Folder to write into.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 (default: the first accelerator).")
]
Dtype = Annotated[str, typer.Option(help="float32 or bfloat16.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", min=0)]
Metric = Annotated[str | None, typer.Option(help="Metric (default: the task's own).")]
Strategy = Annotated[str, typer.Option(help="widest-path, top-n, greedy or stable.")]
AnyStrategy = Annotated[
    str | None,
    typer.Option(help="widest-path (default), top-n, greedy or stable; for nodes, top-n only."),
]
Ranking = Annotated[str, typer.Option(help="absolute, signed or mixed.")]
AutoRanking = Annotated[
    str,
    typer.Option(help="absolute, signed, mixed, or auto: chosen on 16 extra pairs."),
]
PositiveRatio = Annotated[
    float | None, typer.Option(help="For --ranking mixed, the share of the signed order.")
]
BatchSize = Annotated[
    int | None,
    typer.Option(help="Pairs at a time (default: as many as fit and still gain speed).", min=1),
]
RequireAccuracy = Annotated[
    float | None,
    typer.Option(
        help="Stop before the work if the model's accuracy on the clean prompts is lower, as in "
        ".6; it is measured and said in any case.",
        min=0,
        max=1,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]


def load_task(name: str, data: Path | None, given: list[str] | None, *, skip: bool = False) -> Task:
    """The task that --task, --data, --task-option and --skip-bad-rows describe."""
    import tasks
    from tasks.registry import option_types

    if skip and "skip" not in tasks.options(name):
        raise CircuitsError(f"--skip-bad-rows: task {name!r} makes its prompts and reads no rows")
    given = [*(given or ()), *(["skip=true"] if skip else ())]

    types = option_types(name)
    options: dict[str, Any] = {} if data is None else {"path": data}
    for option in given:
        key, equals, value = option.partition("=")
        if not equals:
            raise CircuitsError(f"--task-option {option!r}: write key=value, as in corruption=swap")
        options[key] = _read(key, value, types.get(key, ("str",)))
    return tasks.load(name, **options)


_TYPES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "bool": ("true or false", {"true": True, "false": False}.__getitem__),
    "int": ("a whole number", int),
    "float": ("a number", float),
}


def _read(key: str, text: str, types: tuple[str, ...]) -> Any:
    """An option's value from its text, which is the value where the option takes text."""
    known = [_TYPES[name] for name in types if name in _TYPES]
    if "bool" in types and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if "str" in types or not known:
        return text
    if "None" in types and text == "null":
        return None
    what, read = known[0]
    try:
        return read(text.lower())
    except (KeyError, ValueError) as error:
        raise CircuitsError(f"--task-option {key}={text}: {key} is {what}") from error


def load_pairs(
    task: Task,
    model: HookedModel,
    n: int | None,
    split: str | None,
    seed: int,
    *,
    most: int | None = None,
) -> PairSet:
    """Pairs of the task for the model. Without a split or a number, all rows of a file.

    most: take as many as there are, up to this number.
    """
    from tasks.most import most_pairs

    reads_file = getattr(task, "path", None) is not None
    arguments: dict[str, Any] = {
        "n": n if n is not None or reads_file else 100,
        "split": split or ("all" if reads_file else "validation"),
    }
    arguments |= {"seed": seed, "n_ctx": model.n_ctx}
    if most is None:
        pairs = task.pairs(model.tokenizer, **arguments)
    else:
        pairs = most_pairs(task, model.tokenizer, **{**arguments, "n": most})
    say_skipped(pairs.skipped)
    return pairs


def say_skipped(skipped: Sequence[Skipped]) -> None:
    """Say how many rows were left out, and why."""
    from tasks.skipping import described

    if skipped:
        typer.echo(f"warning: {described(skipped)}", err=True)


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
    batch_size: int | None,
    seed: int,
) -> TaskPerformance:
    """Say whether the model does the task at all, before the expensive part; stop if it must."""
    from circuits.evaluation import task_performance
    from circuits.runtime.options import RunOptions

    options = RunOptions(batch_size, seed)
    found = task_performance(model, pairs, metric=metric, options=options)
    for line in found.lines():
        typer.echo(line, err=line.startswith("warning"))
    if required is not None:
        found.require_accuracy(required)
    return found


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
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise CircuitsError(f"{out}: cannot be written to ({there} is no folder)")
    try:
        with TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise CircuitsError(f"{out}: cannot be written to ({error.strerror})") from error


def load_hooked(
    source: str, device: str | None, dtype: str, tokenizer: str | None = None
) -> HookedModel:
    """The model that --model, --tokenizer, --device and --dtype describe, without the loader's own
    bars.
    """
    from circuits.models import HookedModel

    silence_libraries()
    return HookedModel.from_pretrained(source, tokenizer=tokenizer, device=device, dtype=dtype)


def silence_libraries() -> None:
    """Keep other libraries' bars and advice out of the output."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def echo_outputs(*paths: Path) -> None:
    """Say where the result is."""
    for path in paths:
        typer.echo(f"wrote {path}")
