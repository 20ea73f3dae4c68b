"""The verb `circuits finetune`."""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.cli.flags import Without
from circuits.options.declared import narrowed
from circuits.options.model import ModelOptions
from circuits.options.run import RunOptions
from circuits.options.tuning import FinetuneOptions, FinetuneSettings

if TYPE_CHECKING:
    from circuits.tuning.finetune import FinetuneResult

_LOOKED_AT = 1000  # prompts whose beginning is looked at


def finetune(
    *,
    model: Annotated[ModelOptions, use.AsOnePlainModel],
    source: Annotated[use.TaskOptions, Without("n", "split")],
    out: use.Out = Path("checkpoints"),
    training: FinetuneOptions,
    run: Annotated[RunOptions, Without("batch_size", "progress")],
    quiet: use.Quiet = False,
) -> None:
    """Fine-tune on a task, saving checkpoints.

    The loss is on the targets only. Killed and started again, it goes on where it was. `accelerate
    launch -m circuits.cli finetune ...` spreads it over GPUs.

    Example: circuits finetune --model newsroom-gpt2 --task newsroom --steps 100
    """
    from circuits.errors import CircuitsError
    from circuits.models.begin import missing_begin
    from circuits.models.checkpoints import load
    from circuits.models.context_length import context_window
    from circuits.tuning.finetune import finetune as train
    from circuits.tuning.training_arguments import launched, leads
    from tasks.task import TrainableTask

    use.require_writable(out)
    use.silence_libraries()
    settings = narrowed(training, FinetuneSettings, seed=run.seed)
    loaded = use.load_task(source.task, source)
    if not isinstance(loaded, TrainableTask):
        raise CircuitsError(f"task {source.task!r} has no targets to train on; try summarization")
    device = model.device if launched() == 1 else "cpu"  # from where each goes to its own
    loaded_model = load(model.model, tokenizer=model.tokenizer, device=device)
    network, words = loaded_model.model, loaded_model.words
    n_ctx = context_window(network.config)
    draw = partial(loaded.examples, words, seed=run.seed, n_ctx=n_ctx)
    training_set, validation_set = (
        draw(training.examples, split="train"),
        draw(training.validation, split="validation"),
    )
    left_out = [
        row for dataset in (training_set, validation_set) for row in getattr(dataset, "skipped", ())
    ]
    if leads():
        use.say_skipped(left_out, len(training_set) + len(validation_set))
        prompts = [example.prompt for example in islice(training_set, _LOOKED_AT)]
        if missing := missing_begin(network.config, words, prompts):
            typer.echo(f"warning: {missing}", err=True)
    result = train(
        network,
        training_set,
        out,
        settings=settings,
        validation=validation_set,
        tokenizer=words,
        progress=not quiet,
    )
    if not leads():
        return
    for entry in result.log.validation:
        typer.echo(
            f"step {entry.step}: validation loss {entry.loss:.4f}, "
            f"token accuracy {entry.token_accuracy:.3f}"
        )
    if (line := _best(result)) is not None:
        typer.echo(line)
    outputs = [*result.checkpoints.values(), out / "training_log.json"]
    use.echo_outputs(*outputs, *use.write_skipped(out, left_out))


def _best(result: FinetuneResult) -> str | None:
    """Where the lowest validation loss is to be found."""
    best = result.log.best
    if best is None:
        return None
    if best.step == 0:
        return (
            f"lowest validation loss {best.loss:.4f}: the base model's; training did not lower it"
        )
    location = (
        result.best or f"not saved; keep it with --checkpoint-steps {best.step} or --patience"
    )
    return f"lowest validation loss {best.loss:.4f} at step {best.step}: {location}"
