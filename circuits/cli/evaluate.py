"""The verb `circuits evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from circuits.cli import options as use


def evaluate(
    model: use.Model,
    task: use.TaskName,
    scores: Annotated[Path, typer.Option(help="Folder or file that `discover` wrote.")],
    out: use.Out = Path("evaluation"),
    data: use.Data = None,
    task_option: use.TaskOptions = None,
    n: use.Number = None,
    split: Annotated[
        str | None, typer.Option(help="Examples that the scores were not made from.")
    ] = None,
    share: Annotated[
        float, typer.Option(help="Size of the circuit looked at closely, of all edges.")
    ] = 0.1,
    minimal: Annotated[
        bool, typer.Option("--minimality", help="Also remove each edge alone (a run an edge).")
    ] = False,
    metric: use.Metric = None,
    batch_size: use.BatchSize = None,
    device: use.Device = None,
    dtype: use.Dtype = "float32",
    seed: use.Seed = 0,
    quiet: use.Quiet = False,
) -> None:
    """Measure how faithful circuits are.

    With bootstrap intervals over examples, and a random ranking as control.

    Example: circuits evaluate --model newsroom-gpt2 --task newsroom --split test --scores scores
    """
    from circuits.errors import CircuitsError
    from circuits.evaluation import faithfulness, minimality, robustness
    from circuits.files import write_json
    from circuits.graph import EdgeScores, select

    if not 0 < share <= 1:
        raise CircuitsError(f"--share {share}: it must be above 0 and at most 1")
    found = EdgeScores.load(scores)
    loaded = use.load_task(task, data, task_option)
    hooked = use.load_hooked(model, device, dtype)
    held_out = split or ("all" if data is not None else "test")
    pairs = use.load_pairs(loaded, hooked, n, held_out, seed)
    if found.details.get("data", {}).get("fingerprint") == pairs.fingerprint:
        typer.echo("note: these are the examples that the scores were made from", err=True)
    settings: dict[str, Any] = {
        "metric": metric,
        "batch_size": batch_size,
        "seed": seed,
        "progress": not quiet,
    }
    curve = faithfulness(hooked, found, pairs, **settings)
    circuit = select(found, edges=max(1, round(share * found.layout.n_edges)))
    held = robustness(hooked, circuit, {"evaluate": pairs}, **settings)["evaluate"]
    record = {
        "faithfulness": curve.to_dict(),
        "circuit": {
            "edges": len(circuit),
            "share": circuit.share,
            "nodes": len(circuit.nodes),
            **held.to_dict(),
        },
        "minimality": minimality(hooked, circuit, pairs, **settings).to_dict()
        if minimal and len(circuit)
        else None,
    }
    typer.echo(f"faithfulness on {len(pairs)} pairs ({pairs.split}), 95 % intervals")
    typer.echo(f"{'share':>7} {'edges':>7}  {'absolute':<24}{'signed':<24}random")
    for place, fraction in enumerate(curve.fractions):
        row = [curve.curves[name].values[place] for name in ("absolute", "signed", "random")]
        count = curve.curves["absolute"].edges[place]
        typer.echo(f"{fraction:>7.1%} {count:>7}  {row[0]!s:<24}{row[1]!s:<24}{row[2]}")
    typer.echo(f"CPR {curve.cpr} (random {curve.curves['random'].area})")
    typer.echo(f"CMD {curve.cmd} (random {curve.curves['random'].distance})")
    write_json(out / "evaluation.json", record)
    use.wrote(out / "evaluation.json")
