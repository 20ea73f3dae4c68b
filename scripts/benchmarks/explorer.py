"""What the explorer costs: in the browser, per click, and under many windows.

    python scripts/benchmarks/explorer.py browser   # load, filter and frames, in Chromium
    python scripts/benchmarks/explorer.py clicks    # clicks and a sweep beside plain runs
    python scripts/benchmarks/explorer.py load --model newsroom-gpt2 --task newsroom
                                                    # 20 windows for a minute

Times of the model are CPU time of one process, two sides run in turns; those of the browser are the
page's own clock. `browser` needs Chromium and the package `playwright`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import tasks
from circuits import HookedModel
from circuits.explorer.contents import Json, checkpoint_contents, layout_contents
from circuits.explorer.live.backends import backend_of
from circuits.explorer.live.pair import LivePair
from circuits.explorer.live.serve import ExplorerServer
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
    parser.add_argument("part", choices=("browser", "clicks", "load"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--task", default="ioi")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.part == "browser":
        browser()
    elif options.part == "clicks":
        clicks(options.model, options.task)
    else:
        asyncio.run(load(options.model, options.task, options.windows, options.seconds))


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
            page.goto(file.as_uri())
            page.wait_for_selector("#explorer[data-ready=true]", state="attached")
            load_ms = page.evaluate("() => new Promise((d) => requestAnimationFrame("
                                   "() => setTimeout(() => d(performance.now()))))")  # fmt: skip
            all_edges_ms = page.evaluate(_FILTER, {"by": "threshold", "threshold": 0})
            text = page.evaluate(_FILTER, {"text": "m1->"})
            difference_ms = page.evaluate(_FILTER, {"other": 0, "text": ""})
            page.evaluate(_FILTER, {"other": None})
            frames = frames_of(page)
            print(
                f"{name}: {layout.n_edges} edges, page {file.stat().st_size / 2**20:.2f} MiB, "
                f"open and drawn in {load_ms:.0f} ms; all edges {all_edges_ms:.0f} ms, filtered by "
                f"name {text:.0f} ms, difference {difference_ms:.0f} ms; {frames['drawn']} lines: "
                f"{frames['fps']:.0f} frames/s, 95 % of them within {frames['slow']:.1f} ms"
            )
            page.close()
        chromium.close()


def frames_of(page: Page) -> dict[str, float]:
    """Frames a second while the drawing of 500 edges is dragged and zoomed by the mouse."""
    page.evaluate(_FILTER, {"by": "size", "size": 500})
    box = page.locator(".stage").bounding_box()
    assert box is not None
    x, y = box["x"] + 20, box["y"] + 20
    page.mouse.move(x, y)
    page.evaluate(_FRAMES)
    page.mouse.down()
    until = time.monotonic() + 3
    turn = 0
    while time.monotonic() < until:
        turn += 1
        page.mouse.move(x + turn % 200, y + turn % 150)
    page.mouse.up()
    for turn in range(30):
        page.mouse.wheel(0, 40 if turn % 10 < 5 else -40)
    page.evaluate("() => { window.moved = true; }")
    page.wait_for_function("() => window.frames?.fps")
    rates: dict[str, float] = page.evaluate("() => window.frames")
    return rates


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


async def load(source: str, task: str, windows: int, seconds: float) -> None:
    """Windows that type, click and sweep without pause."""
    model = HookedModel.from_pretrained(source, device="cpu")
    pairs = tasks.load(task).pairs(model.tokenizer, n=windows, split="test")
    server = ExplorerServer(backend_of(model=model, pairs=pairs))
    server.start()
    url = re.sub(r"^http(.*)/\?", r"ws\1/live?", server.address.url)
    until = time.monotonic() + seconds
    memory: list[float] = []
    watch = asyncio.create_task(watched(memory, until))
    results = await asyncio.gather(*(window(url, index, until) for index in range(windows)))
    await watch
    server.stop()
    times = sorted(duration for times, _ in results for duration in times)
    errors = sum(n_errors for _, n_errors in results)
    third = max(1, len(memory) // 3)
    print(
        f"{windows} windows, {seconds:.0f} s: {len(times)} answers, {errors} errors; a click took "
        f"{times[len(times) // 2]:.2f} s (median), {times[int(len(times) * 0.95)]:.2f} s (95 %); "
        f"memory {statistics.median(memory[third : 2 * third]):.0f} MiB in the second third, "
        f"{statistics.median(memory[2 * third :]):.0f} in the last, peak "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f}"
    )


async def window(url: str, place: int, until: float) -> tuple[list[float], int]:
    """One window: how long its clicks took, and how many requests ended in an error."""
    from websockets.asyncio.client import connect

    times, errors, number = [], 0, 0

    async with connect(url, max_size=None) as socket:

        async def ask(**request: object) -> bool:
            nonlocal number
            number += 1
            await socket.send(json.dumps({"id": number, **request}))
            while True:
                answer = json.loads(await socket.recv())
                if answer["id"] == number and answer["what"] != "step":
                    return bool(answer["what"] == "done")

        errors += not await ask(do="task_prompts", index=place)
        while time.monotonic() < until:
            for request in (
                {"do": "edge", "edge": "m0->logits", "direction": "noise"},
                {"do": "site", "site": "resid_pre", "direction": "denoise", "layer": 1},
            ):
                start = time.monotonic()
                errors += not await ask(**request)
                times.append(time.monotonic() - start)
    return times, errors


async def watched(memory: list[float], until: float) -> None:
    """The resident memory, every second."""
    while time.monotonic() < until:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory.append(pages * resource.getpagesize() / 2**20)
        await asyncio.sleep(1)


if __name__ == "__main__":
    main()
