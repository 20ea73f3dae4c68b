r"""A run from base model to report, stage by stage.

    pairs -> checkpoints -> quality, performance, scores -> circuits -> evaluation
                                                        \-> comparison
             checkpoints -> patching
             checkpoints -> model_diff -> lora (with circuits) -> circuits of LoRAs -> report

Every stage is the package's public function on the recipe's settings. A recipe about one model
leaves out what compares checkpoints.
"""

from __future__ import annotations

from pathlib import Path

from circuits.models.checkpoints import as_device
from circuits.pipeline import comparison, discovery, lora, lora_circuits, training
from circuits.pipeline.context import RunContext
from circuits.pipeline.data import Data
from circuits.pipeline.recipe import Recipe
from circuits.pipeline.settings import check
from circuits.pipeline.store import Store
from circuits.report import write_report


def run(recipe: Recipe, folder: str | Path, *, progress: bool = True) -> Path:
    """Do everything that the recipe asks for, or what is left of it.

    Args:
        recipe: what to do.
        folder: of the run; a new one, or one to go on in.
        progress: show progress bars on stderr.

    Returns:
        The report's path.

    Raises:
        CircuitsError: where the recipe cannot be run, or the folder is of another run or in use.
    """
    check(recipe)
    with Store.open(folder, recipe) as store:
        context = RunContext(recipe, store, Data(recipe, store), progress)
        _stages(context)
        store.write_environment(str(as_device(recipe.device)))
        return write_report(store.folder)


def _stages(run: RunContext) -> None:
    run.data.make_pairs()
    training.make_checkpoints(run)
    training.measure_quality(run)
    for name in run.checkpoints:
        discovery.check_task(run, name)
        discovery.score(run, name)
        discovery.choose_circuit(run, name)
        discovery.evaluate_circuit(run, name)
    discovery.write_evaluation(run)
    discovery.patch_activations(run)
    if not run.recipe.single:
        comparison.compare_scores(run)
        comparison.cross_circuits(run)
        comparison.diff_checkpoints(run)
        comparison.put_neurons_back(run)
        lora.compare_loras(run)
        lora_circuits.compare_lora_circuits(run)
