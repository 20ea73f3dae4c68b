"""The explorer under many windows: how long clicks take, and what memory the server holds.

    python scripts/benchmarks/explorer_load.py --model newsroom-gpt2 --task newsroom
    python scripts/benchmarks/explorer_load.py --model smollm2-135m --task ioi --same

`circuits explore` runs as a process of its own, whose memory and CPU time are read every 10 s. Each
window takes a pair of the task, then patches edges and places drawn at random, one after the other
without a pause, and takes another pair after every 12 clicks. With `--same`, all windows stay at
the pair that the page opens with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SITES = ("resid_pre", "attn_out", "mlp_out", "resid_post")
CLICKS_A_PAIR = 12
EVERY_S = 10
_SERVE = "from circuits.cli.app import main; main()"


@dataclass
class Clicks:
    """What windows saw. taken, clicked: seconds until a pair was there, and until a click was
    answered, with the time at which it was. errors: what was refused.
    """

    taken: list[float] = field(default_factory=list)
    clicked: list[tuple[float, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def main() -> None:
    """Serve a model, and let windows click."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="newsroom-gpt2")
    parser.add_argument("--task", default="newsroom")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--same", action="store_true", help="all windows at one pair")
    options = parser.parse_args()
    with served(options.model, options.task) as (url, process):
        asyncio.run(load(url, process, options.windows, options.seconds, same=options.same))


@contextmanager
def served(model: str, task: str) -> Iterator[tuple[str, int]]:
    """The address of `circuits explore`, and its process."""
    command = [sys.executable, "-c", _SERVE, "explore", "--model", model, "--task", task]
    process = subprocess.Popen([*command, "--device", "cpu"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if match := re.match(r"open (http\S+)", line):
                yield match[1], process.pid
                break
        else:
            sys.exit("the server did not start")
    finally:
        process.terminate()
        process.wait()


async def load(url: str, process: int, windows: int, seconds: float, *, same: bool) -> None:
    """Windows that click without pause, and what that costs."""
    with urllib.request.urlopen(url.replace("/?", "/contents?")) as answer:
        layout = json.load(answer)["layout"]
    socket = re.sub(r"^http(.*)/\?", r"ws\1/live?", url)
    clicks, start, cpu = Clicks(), time.monotonic(), cpu_seconds(process)
    watch = asyncio.create_task(watched(process, start, seconds))
    print(f"{windows} windows, {seconds:.0f} s; the server holds {memory_mib(process):.0f} MiB")
    await asyncio.gather(
        *(window(socket, layout, n, start + seconds, clicks, same=same) for n in range(windows))
    )
    cpu = cpu_seconds(process) - cpu
    await watch
    durations = sorted(duration for _, duration in clicks.clicked)
    late = sorted(d for at, d in clicks.clicked if at > start + seconds / 2)
    n = len(durations) + len(clicks.taken)
    print(
        f"{len(durations)} clicks, {len(clicks.taken)} pairs taken, {len(clicks.errors)} errors; "
        f"a click took {_quantiles(durations)}, in the second half {_quantiles(late)}; a pair "
        f"{_quantiles(sorted(clicks.taken))}; {1000 * cpu / max(1, n):.0f} ms of CPU an answer"
    )
    print(*dict.fromkeys(clicks.errors), sep="\n", end="")


def _quantiles(durations: list[float]) -> str:
    if not durations:
        return "-"
    middle, late = (durations[int(len(durations) * share)] for share in (0.5, 0.95))
    return f"{middle:.2f} s (95 %: {late:.2f} s)"


async def window(
    url: str,
    layout: dict[str, list[object]],
    place: int,
    until: float,
    clicks: Clicks,
    *,
    same: bool,
) -> None:
    """One window: takes a pair, clicks, and takes the next."""
    from websockets.asyncio.client import connect

    draw, number = random.Random(place), 0
    async with connect(url, max_size=None) as socket:

        async def ask(**request: object) -> tuple[float, dict[str, object]]:
            """How long it took to be answered, and what is said."""
            nonlocal number
            number += 1
            start = time.monotonic()
            await socket.send(json.dumps({"id": number, **request}))
            while True:
                answer: dict[str, object] = json.loads(await socket.recv())
                if answer["id"] == number and answer["what"] != "step":
                    if answer["what"] == "error":
                        clicks.errors.append(str(answer["said"]))
                    return time.monotonic() - start, answer

        index = 0 if same else place
        while time.monotonic() < until:
            duration, pair = await ask(do="task_prompts", index=index)
            clicks.taken.append(duration)
            tokens, index = len(pair["clean"]), index if same else index + 1  # type: ignore[arg-type]
            for _ in range(CLICKS_A_PAIR):
                if time.monotonic() >= until:
                    return
                duration, _ = await ask(**random_click(draw, layout, tokens))
                clicks.clicked.append((time.monotonic(), duration))


def random_click(
    draw: random.Random, layout: dict[str, list[object]], tokens: int
) -> dict[str, object]:
    """An edge or a place, in either direction."""
    direction = draw.choice(("noise", "denoise"))
    if draw.random() < 0.5:
        column = draw.randrange(len(layout["readers"]))
        row = draw.randrange(*layout["visible"][column])  # type: ignore[misc]
        edge = f"{layout['sources'][row]}->{layout['readers'][column]}"
        return {"do": "edge", "edge": edge, "direction": direction}
    layers = layout["sizes"]["n_layers"]  # type: ignore[call-overload]
    where = {"layer": draw.randrange(layers), "position": draw.randrange(tokens)}
    return {"do": "site", "site": draw.choice(SITES), "direction": direction, **where}


async def watched(process: int, start: float, seconds: float) -> None:
    """Say every 10 s what the server holds."""
    for at in range(EVERY_S, int(seconds) + 1, EVERY_S):
        await asyncio.sleep(max(0.0, start + at - time.monotonic()))
        print(f"{at:4d} s: {memory_mib(process):.0f} MiB", flush=True)


def memory_mib(process: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def cpu_seconds(process: int) -> float:
    """CPU time of a process, of all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
