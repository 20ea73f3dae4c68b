"""What the explorer costs: in the browser, and per click (`explorer_load.py`: under many windows).

    python scripts/benchmarks/explorer.py browser   # load, filter and frames, in Chromium
    python scripts/benchmarks/explorer.py clicks    # clicks and a sweep beside plain runs
    python scripts/benchmarks/explorer.py together  # clicks side by side in one pass, and alone

Times of the model are CPU time of one process, two sides run in turns; those of the browser are the
page's own clock. `browser` needs Chromium and the package `playwright`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import tasks
from circuits import HookedModel
from circuits.explorer.contents import Json, checkpoint_contents, layout_contents
from circuits.explorer.live.pair import LivePair
from circuits.explorer.page import write_page
from circuits.graph import EdgeScores, Layout
from circuits.intervention.patching import PatchSpec, patch

if TYPE_CHECKING:
    from playwright.sync_api import Page

LAYOUTS = {"GPT-2 small": Layout(12, 12, 12), "SmolLM2-135M": Layout(30, 9, 3)}
_FRAMES = """() => {
  const times = [];
  const frame = (now) => {
    times.push(now);
    if (!window.moved) requestAnimationFrame(frame);
    else {
      const gaps = times.slice(1).map((time, place) => time - times[place]).sort((a, b) => a - b);
      window.frames = {
        drawn: explorer.picture().lines.length,
        n: gaps.length,
        fps: 1000 * gaps.length / (times.at(-1) - times[0]),
        slow: gaps[Math.floor(gaps.length * 0.95)],
      };
    }
  };
  requestAnimationFrame(frame);
}"""
_FILTER = """(changes) => new Promise((done) => {
  const start = performance.now();
  explorer.store.set(changes);
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=("browser", "clicks", "together"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--task", default="ioi")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.part == "browser":
        browser()
    elif options.part == "clicks":
        clicks(options.model, options.task)
    else:
        together(options.model, options.task)


def contents_of(layout: Layout) -> Json:
    """Two checkpoints of heavy-tailed random scores."""
    draw = torch.Generator().manual_seed(0)
    checkpoints = []
    for name in ("before", "after"):
        values = torch.randn(layout.shape, generator=draw).pow(3) * layout.mask
        checkpoints.append(checkpoint_contents(name, EdgeScores(values, layout, "eap-ig")))
    return {
        "title": "",
        "layout": layout_contents(layout),
        "checkpoints": checkpoints,
        "missing": [],
    }


def browser() -> None:
    """Loading, filtering and moving the graphs of two models."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or sys.exit("no chromium")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, layout in LAYOUTS.items():
            file = write_page(contents_of(layout), Path(folder) / "page.html")
            page = chromium.new_page(viewport={"width": 1300, "height": 900})
            cpu = [children_cpu()]
            page.goto(file.as_uri())
            page.wait_for_selector("#explorer[data-ready=true]", state="attached")
            load_ms = page.evaluate("() => new Promise((d) => requestAnimationFrame("
                                   "() => setTimeout(() => d(performance.now()))))")  # fmt: skip
            cpu.append(children_cpu())
            all_edges_ms = page.evaluate(_FILTER, {"by": "threshold", "threshold": 0})
            text = page.evaluate(_FILTER, {"text": "m1->"})
            cpu.append(children_cpu())
            difference_ms = page.evaluate(_FILTER, {"other": 0, "text": ""})
            page.evaluate(_FILTER, {"other": None})
            opened, filtered = (1000 * (b - a) for a, b in pairwise(cpu))
            frames = frames_of(page)
            print(
                f"{name}: {layout.n_edges} edges, page {file.stat().st_size / 2**20:.2f} MiB, "
                f"open and drawn in {load_ms:.0f} ms; all edges {all_edges_ms:.0f} ms, filtered by "
                f"name {text:.0f} ms, difference {difference_ms:.0f} ms; CPU of the browser: "
                f"{opened:.0f} ms until drawn, {filtered:.0f} ms for all edges and the filter; "
                f"{frames['drawn']} lines: "
                f"{frames['fps']:.0f} frames/s, 95 % of them within {frames['slow']:.1f} ms, "
                f"{frames['cpu_ms']:.1f} ms of CPU a frame"
            )
            page.close()
        chromium.close()


def frames_of(page: Page) -> dict[str, float]:
    """Frames a second while the drawing of 500 edges is dragged and zoomed by the mouse.

    Wall time says what a reader sees on this machine now; CPU time of the browser's processes says
    what a frame costs, whoever else uses the cores.
    """
    page.evaluate(_FILTER, {"by": "size", "size": 500})
    page.wait_for_timeout(2500)  # Cytoscape makes its picture once nothing has changed for a second
    box = page.locator(".stage").bounding_box()
    assert box is not None
    x, y = box["x"] + 20, box["y"] + 20
    page.mouse.move(x, y)
    page.evaluate(_FRAMES)
    cpu = children_cpu()
    page.mouse.down()
    for turn in range(180):
        page.mouse.move(x + turn % 200, y + turn % 150)
    page.mouse.up()
    for turn in range(60):
        page.mouse.wheel(0, 40 if turn % 10 < 5 else -40)
    page.evaluate("() => { window.moved = true; }")
    page.wait_for_function("() => window.frames?.fps")
    rates: dict[str, float] = page.evaluate("() => window.frames")
    return {**rates, "cpu_ms": 1000 * (children_cpu() - cpu) / rates["n"]}


def children_cpu() -> float:
    """CPU seconds that the processes below this one have taken."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = stat.read_text().rpartition(")")[2].split()
            process = int(stat.parent.name)
            parents[process] = int(fields[1])
            seconds[process] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def below(process: int) -> bool:
        return process in parents and (parents[process] == os.getpid() or below(parents[process]))

    return sum(taken for process, taken in seconds.items() if below(process))


def clicks(source: str, task: str) -> None:
    """A click beside one forward pass, and a sweep beside `circuits.patch`."""
    model = HookedModel.from_pretrained(source, device="cpu")
    pairs = tasks.load(task).pairs(model.tokenizer, n=1, split="test")
    pair = LivePair(model, pairs)
    for _ in pair.prepare():
        pass
    batch = pair.batch
    middle, last_position = model.layout.n_layers // 2, batch.clean.shape[1] - 1
    start = int((batch.clean != batch.corrupted)[0].nonzero()[0])

    @torch.no_grad()
    def forward() -> None:
        model.logits(batch.clean, batch)

    for name, act in {
        "resid_pre, layer 0, first difference": lambda: pair.site(_one("resid_pre", 0, start)),
        "resid_pre, middle": lambda: pair.site(_one("resid_pre", middle, last_position)),
        "mlp_out, middle": lambda: pair.site(_one("mlp_out", middle, last_position)),
        "edge input->m0, corrupted": lambda: pair.edge("input->m0", "noise"),
        "edge input->m0, restored": lambda: pair.edge("input->m0", "denoise"),
        "edge m0->logits, corrupted": lambda: pair.edge("m0->logits", "noise"),
    }.items():
        live_time, plain_time = in_turns(act, forward, 15)
        print(
            f"{name}: {1000 * live_time:.1f} ms, a forward pass {1000 * plain_time:.1f} ms; beyond "
            f"1.5 passes {1000 * (live_time - 1.5 * plain_time):.1f} ms (at most 50)"
        )

    def ready() -> None:
        for _ in LivePair(model, pairs).prepare():
            pass

    live_time, plain_time = in_turns(ready, forward, 3)
    passes = live_time / plain_time
    print(f"a pair made ready for all clicks: {live_time:.2f} s, {passes:.1f} forward passes")
    layers = tuple(range(0, model.layout.n_layers, 6))
    spec = PatchSpec("resid_pre", "denoise", sweep=("layer", "position"), layers=layers)

    def here() -> None:
        for _ in LivePair(model, pairs).sweep(spec).run():
            pass

    live_time, plain_time = in_turns(here, lambda: patch(model, pairs, spec), 3)
    print(
        f"sweep of {len(layers)} layers x positions: {live_time:.2f} s, circuits.patch "
        f"{plain_time:.2f} s, {live_time / plain_time:.2f}x"
    )


def together(source: str, task: str) -> None:
    """What windows would gain if their clicks shared passes: whole passes, and edges of a pair."""
    model = HookedModel.from_pretrained(source, device="cpu")
    pairs = tasks.load(task).pairs(model.tokenizer, n=1, split="test")
    pair = LivePair(model, pairs)
    for _ in pair.prepare():
        pass
    with torch.no_grad():
        for copies in (1, 2, 5, 10, 20):
            batch = pair.batch.repeat(copies)
            seconds = cpu_seconds_of(partial(model.logits, batch.clean, batch), 5)
            print(f"{copies} x {batch.clean.shape[1]} tokens: {1000 * seconds:.0f} ms")
    edges = torch.randperm(model.layout.n_edges, generator=torch.Generator().manual_seed(0))[:20]
    keep = model.layout.mask.repeat(20, 1, 1)
    for mask, edge in zip(keep, model.layout.mask.nonzero()[edges].tolist(), strict=True):
        mask[tuple(edge)] = False
    runner = pair.clean_runner
    at_once, alone = in_turns(
        lambda: runner.logits(keep), lambda: [runner.logits(mask[None]) for mask in keep], 3
    )
    print(
        f"20 edges of one pair: {1000 * at_once:.0f} ms side by side, {1000 * alone:.0f} ms one by "
        f"one, {alone / at_once:.2f}x"
    )


def cpu_seconds_of(act: Callable[[], object], rounds: int) -> float:
    """Median CPU seconds of one call, behind a first that is not counted."""
    durations = []
    for _ in range(rounds + 1):
        start = time.process_time()
        act()
        durations.append(time.process_time() - start)
    return statistics.median(durations[1:])


def _one(site: str, layer: int, position: int) -> PatchSpec:
    return PatchSpec(site, "denoise", layers=(layer,), positions=(position,))  # type: ignore[arg-type]


def in_turns(
    mine: Callable[[], object], other: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """Median CPU seconds of two sides, run in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for act, durations in zip((mine, other), times, strict=True):
            start = time.process_time()
            act()
            durations.append(time.process_time() - start)
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


if __name__ == "__main__":
    main()
