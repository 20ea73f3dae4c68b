"""The verb `circuits finetune`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use

if TYPE_CHECKING:
    from circuits.tuning.finetune import FinetuneResult


def finetune(
    model: use.Model,
    task: use.TaskName,
    out: use.Out = Path("checkpoints"),
    data: use.Data = None,
    task_option: use.TaskOptions = None,
    skip_bad_rows: use.Skip = False,
    examples: Annotated[int, typer.Option(help="Training examples.", min=1)] = 1000,
    validation: Annotated[int, typer.Option(help="Validation examples.", min=1)] = 100,
    steps: Annotated[int, typer.Option(help="Optimizer steps.", min=1)] = 300,
    checkpoint: Annotated[
        list[int] | None, typer.Option(help="Save after this step; may be repeated.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 5e-5,
    batch_size: Annotated[int, typer.Option(help="Examples a step.", min=1)] = 32,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many validations without improvement; the best model is kept too."
        ),
    ] = None,
    tokenizer: use.Tokenizer = None,
    device: use.Device = None,
    seed: use.Seed = 0,
    quiet: use.Quiet = False,
) -> None:
    """Fine-tune on a task, saving checkpoints.

    The loss is on the targets only. Killed and started again, it goes on where it was.

    Example: circuits finetune --model newsroom-gpt2 --task newsroom --steps 100
    """
    from circuits.errors import CircuitsError
    from circuits.models.begin import missing_begin
    from circuits.models.checkpoints import load
    from circuits.models.context_length import context_window
    from circuits.tuning.finetune import finetune as train
    from circuits.tuning.settings import FinetuneSettings
    from tasks.task import TrainableTask

    use.require_writable(out)
    use.silence_libraries()
    settings = FinetuneSettings(
        steps=steps,
        learning_rate=learning_rate,
        warmup_steps=min(10, steps),
        batch_size=batch_size,
        checkpoint_steps=tuple(checkpoint or ()),
        patience=patience,
        seed=seed,
    )
    loaded = use.load_task(task, data, task_option, skip=skip_bad_rows)
    if not isinstance(loaded, TrainableTask):
        raise CircuitsError(f"task {task!r} has no targets to train on; try summarization")
    found = load(model, tokenizer=tokenizer, device=device)
    network, words = found.model, found.words
    n_ctx = context_window(network.config)
    draw = partial(loaded.examples, words, seed=seed, n_ctx=n_ctx)
    taught, held_out = draw(examples, split="train"), draw(validation, split="validation")
    left_out = [row for made in (taught, held_out) for row in getattr(made, "skipped", ())]
    use.say_skipped(left_out)
    if missing := missing_begin(network.config, words, [example.prompt for example in taught]):
        typer.echo(f"warning: {missing}", err=True)
    result = train(
        network,
        taught,
        out,
        settings=settings,
        validation=held_out,
        tokenizer=words,
        progress=not quiet,
    )
    for entry in result.log.validation:
        typer.echo(
            f"step {entry.step}: validation loss {entry.loss:.4f}, "
            f"token accuracy {entry.token_accuracy:.3f}"
        )
    if (line := _best(result)) is not None:
        typer.echo(line)
    written = [*result.checkpoints.values(), out / "training_log.json"]
    use.echo_outputs(*written, *use.write_skipped(out, left_out))


def _best(result: FinetuneResult) -> str | None:
    """Where the lowest validation loss is to be found."""
    best = result.log.best
    if best is None:
        return None
    if best.step == 0:
        return (
            f"lowest validation loss {best.loss:.4f}: the base model's; training did not lower it"
        )
    where = result.best or f"not saved; keep it with --checkpoint {best.step} or --patience"
    return f"lowest validation loss {best.loss:.4f} at step {best.step}: {where}"
