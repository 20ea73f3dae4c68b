"""The verb `circuits benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.options.attribution import MetricOptions
from circuits.options.model import ModelOptions

if TYPE_CHECKING:
    from circuits.evaluation import MIBEvaluation
    from circuits.graph import Circuit, EdgeScores


def benchmark(
    *,
    scores: Annotated[
        Path,
        typer.Argument(
            help="A folder of edge scores, a graph file of EAP-IG or MIB, or a folder of a "
            "submission (ioi_gpt2)."
        ),
    ],
    model: ModelOptions,
    source: use.TaskOptions,
    out: use.Out = Path("benchmark"),
    judged: MetricOptions,
    run: use.Run,
    quiet: use.Quiet = False,
) -> None:
    """Evaluate scores or circuits as the MIB benchmark does.

    The circuits are nine, of the benchmark's sizes. Edges are counted ungrouped, as there. Prints f
    at its shares with CPR and CMD, and writes mib.json, and results.json in the form of the
    leaderboard's results.

    Example: circuits benchmark scores --model gpt2 --task mib-ioi --data mib_ioi --split test
    """
    from circuits.evaluation import mib_evaluation
    from circuits.runtime.files import write_json

    use.require_writable(out)
    edges = _read(scores)
    loaded = use.load_task(source.task, source)
    hooked = use.load_hooked(model.model, model)
    pairs = use.load_pairs(loaded, hooked, source.n, source.split, run.seed)
    use.check_task(hooked, pairs, metric=judged.metric, required=judged.require_accuracy, run=run)
    use.write_skipped(out, pairs.skipped)
    options = use.running(run, quiet)
    result = mib_evaluation(hooked, edges, pairs, metric=judged.metric, options=options)
    _show(result)
    result.save(out / "mib.json")
    method = scores.stem if scores.suffix else scores.name
    in_form = {"model_id": hooked.name, "scores": {source.task: result.in_mibs_form()}}
    write_json(out / "results.json", {"method_name": method, "results": [in_form]})
    use.echo_outputs(out / "mib.json", out / "results.json")


def _read(file: Path) -> EdgeScores | tuple[Circuit, ...]:
    from circuits.graph import EdgeScores
    from circuits.graph.interchange import GraphFile
    from circuits.graph.submission import CellFiles

    if file.suffix == ".safetensors" or (file / "scores.safetensors").is_file():
        return EdgeScores.load(file)
    if file.is_dir():
        files = CellFiles.read(file)
        return files.scores() or files.circuits()
    return GraphFile.read(file).scores()


def _show(result: MIBEvaluation) -> None:
    typer.echo(
        f"f on {result.n} pairs ({result.split}), {result.n_edges:,} edges counted ungrouped"
    )
    typer.echo(f"{'share':>6}  {'edges':>9}  {'f, signed':<22} {'edges':>9}  f, absolute")
    rows = zip(
        *(result.fractions, result.signed.edge_counts, result.signed.faithfulness),
        *(result.absolute.edge_counts, result.absolute.faithfulness),
        strict=True,
    )
    for share, edges, f, absolute_edges, g in rows:
        typer.echo(f"{share:>6.1%}  {edges:>9,.0f}  {f!s:<22} {absolute_edges:>9,.0f}  {g}")
    typer.echo(f"CPR {result.cpr}   CMD {result.cmd}")
