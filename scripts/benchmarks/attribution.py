"""Time and memory of EAP-IG against the model's own forward and backward passes.

    python scripts/benchmarks/attribution.py [--shapes 2x128 1x1024] [--plot cost.html]
    python scripts/benchmarks/attribution.py --device cuda --dtype bfloat16 --model llama-3.1-8b \\
        --shapes 1x1024

GPT-2-small shape with random weights, or that of Llama 3.1 8B, 5 steps. The sides:

floor       what no implementation can beat with the same steps and every position: a plain Hugging
            Face model with SDPA attention and frozen weights, logits only where the metric reads
            them, `steps x (forward + backward) + 2 forwards`.
engine      `circuits.attribute`'s engine at the floor's steps, on the floor's prompts.
accurate    the engine with 3 corrected midpoints, at least as close as 5 left points on nine of the
            eleven models and tasks of docs/quadrature.md.
split-hook  EAP-IG as its authors' code computes it, on TransformerLens's bridge with
            `use_split_qkv_input` and `use_attn_result`, as in tests/oracles, weights frozen
            (GPT-2 at 2 x 128 only, once).
published   the same with the weights' own gradients, which the authors' code does not turn off.

They run alternately in one process, so that a noisy machine slows all; peak memory is of a fresh
process a side, or what CUDA allocated at most. One JSON line a shape. `shared` says how many of the
prompts' first positions are equal in clean and corrupted: those the engine runs once. The first
shapes share nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedConfig

from circuits.attribution.batch_scores import BatchScores
from circuits.attribution.eap_ig import EAPIG
from circuits.metrics import METRICS
from circuits.models import HookedModel
from circuits.models.checkpoints import as_device, as_dtype, load_tokenizer, resolve
from circuits.models.hooks import Hooks
from circuits.options.choices import Quadrature
from tasks.pairs import PairBatch, PairSet, PromptPair

SHAPES = ((2, 128, 0), (1, 1024, 0), (2, 128, 42), (1, 1024, 341))
STEPS, ACCURATE = 5, 3
VOCABULARY = 49_000  # tokens that every model here knows
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "gpt2": GPT2Config,
    "llama-3.1-8b": lambda: LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131_072,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=False,
    ),
}
LENGTHS, POINTS = (128, 256, 512, 1024), (1, 5, 10, 20)  # of the plot
LOOKS = (
    {"line": {"color": "#868e96", "dash": "dot"}, "marker": {"symbol": "square"}},
    {"line": {"color": "#2166a8"}},
)


def random_model(options: argparse.Namespace) -> HookedModel:
    """The model of that shape, its weights drawn on the device itself."""
    config = CONFIGS[options.model]()
    config.num_hidden_layers = options.layers or config.num_hidden_layers
    torch.manual_seed(0)
    with torch.device(as_device(options.device)):
        hf = AutoModelForCausalLM.from_config(config, dtype=as_dtype(options.dtype))
    return HookedModel(hf, None, f"{options.model} shape, random weights")


def pairs(n: int, length: int, shared: int, device: torch.device | str = "cpu") -> PairBatch:
    """Random prompts that differ in a tenth of their tokens, behind the shared positions."""
    draw = torch.Generator().manual_seed(0)
    examples = []
    for _ in range(n):
        clean = torch.randint(VOCABULARY, (length,), generator=draw).tolist()
        corrupted = list(clean)
        end = shared + max(1, length // 10)
        corrupted[shared:end] = torch.randint(VOCABULARY, (end - shared,), generator=draw).tolist()
        examples.append(PromptPair(tuple(clean), tuple(corrupted), ((1,),), ((2,),)))
    return next(PairSet(tuple(examples), metric="logit-difference").batches(n)).to(device)


def floor(model: HookedModel, batch: PairBatch, steps: int = STEPS) -> None:
    """Forward and backward passes alone."""
    metric = METRICS["logit-difference"]
    with torch.no_grad():
        model.logits(batch.clean, batch)
        model.logits(batch.corrupted, batch)
    for _ in range(steps):
        leaf = model.hf.get_input_embeddings()(batch.clean).detach().requires_grad_()
        hooks = Hooks()

        def from_leaf(_: Tensor, leaf: Tensor = leaf) -> Tensor:
            return leaf

        hooks.before(model.view.layers[0].block, from_leaf)
        torch.autograd.grad(metric(model.logits(batch.clean, batch, hooks), batch).sum(), leaf)


def engine(
    model: HookedModel,
    batch: PairBatch,
    steps: int = STEPS,
    quadrature: Quadrature = "midpoint",
    *,
    recompute: bool = False,
) -> BatchScores:
    """EAP-IG with a fixed number of steps."""
    method = EAPIG(steps=steps, quadrature=quadrature)
    return method.scores(model, batch, METRICS["logit-difference"], recompute=recompute)


def split_hook(model: HookedModel, batch: PairBatch, *, frozen: bool = True) -> None:
    """The same scores from hooks on a copy of the stream for every reader."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    oracles: Any = importlib.import_module("oracles.split_hooks")
    metric, tokenizer = METRICS["logit-difference"], load_tokenizer(resolve("newsroom-gpt2")[0])
    with tempfile.TemporaryDirectory() as folder:  # the bridge reads a configuration
        model.hf.config.save_pretrained(folder)
        bridge = HookedModel(model.hf, tokenizer, folder).bridge
    oracle = oracles.SplitHooks(bridge, frozen=frozen)
    oracle.scores(
        batch.clean,
        batch.corrupted,
        lambda logits: metric(logits[batch.example_index, batch.position], batch).sum(),
        [(step + 0.5) / STEPS for step in range(STEPS)],
        [1 / STEPS] * STEPS,
    )
    bridge.zero_grad()
    bridge.requires_grad_(False)  # shared with the model


SIDES: dict[str, Callable[[HookedModel, PairBatch], object]] = {
    "floor": floor,
    "engine": engine,
    "accurate": partial(engine, steps=ACCURATE, quadrature="corrected-midpoint"),
    "split-hook": split_hook,
    "published": partial(split_hook, frozen=False),
}
ORACLES = ("split-hook", "published")


def parsed_shape(text: str) -> tuple[int, int, int]:
    """Prompts, tokens and shared tokens from "2x128" or "2x128+42"."""
    prompts, _, lengths = text.partition("x")
    length, _, shared = lengths.partition("+")
    return int(prompts), int(length), int(shared or 0)


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes, until an accelerator has done it."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def high_water() -> int:
    """Most resident KiB of this process. `ru_maxrss` would count the parent's before exec."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(next(x for x in status.read_text().splitlines() if x.startswith("VmHWM")).split()[1])


def allocated(device: torch.device, work: Callable[[], object]) -> int | None:
    """The most bytes that CUDA holds for tensors during the work, weights included."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return torch.cuda.max_memory_allocated(device)


def peak_memory(model: HookedModel, side: str, shape: tuple[int, int, int]) -> float:
    """Peak gigabytes of one side, weights included.

    Of CUDA, what this process allocates; of the CPU, what a process of its own holds, with Python.
    """
    batch = pairs(*shape, model.device)
    peak = allocated(model.device, lambda: SIDES[side](model, batch))
    if peak is not None:
        return peak / 2**30
    command = [sys.executable, *sys.argv, "--only", side, *map(str, shape)]
    process = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(process.stdout) / 2**20


def compare(model: HookedModel, shape: tuple[int, int, int], repeats: int) -> dict[str, object]:
    """One shape: median seconds, ratios to the floor, peak memory."""
    batch = pairs(*shape, model.device)
    sides = dict(SIDES)
    if shape[1:] != (128, 0) or model.hf.config.model_type != "gpt2":
        for oracle in ORACLES:
            del sides[oracle]
    durations: dict[str, list[float]] = {side: [] for side in sides}
    for repeat in range(repeats + 1):
        for side, work in sides.items():
            if side in ORACLES and repeat != repeats:
                continue
            duration = seconds(partial(work, model, batch))
            if repeat:  # the first round warms up
                durations[side].append(duration)
    ratios = {
        side: statistics.median(
            side_time / base
            for side_time, base in zip(times, durations["floor"][-len(times) :], strict=True)
        )
        for side, times in durations.items()
    }
    memory = {side: peak_memory(model, side, shape) for side in sides}
    return {
        "model": model.name,
        "device": str(model.device),
        "dtype": str(model.hf.dtype).removeprefix("torch."),
        "shape": "{} x {}".format(*shape[:2]),
        "shared": shape[2],
        "steps": {"floor": STEPS, "engine": STEPS, "accurate": ACCURATE},
        "threads": torch.get_num_threads(),
        "seconds": {side: round(statistics.median(durations[side]), 3) for side in sides},
        "time_ratio": {side: round(ratio, 3) for side, ratio in ratios.items()},
        "peak_gigabytes": {side: round(value, 2) for side, value in memory.items()},
        "memory_ratio": {side: round(memory[side] / memory["floor"], 3) for side in sides},
    }


def cost(model: HookedModel) -> dict[str, dict[str, list[float]]]:
    """Seconds of floor and engine by tokens and by steps, the sides in turn."""
    works: dict[str, Callable[..., object]] = {"floor": floor, "engine": engine}

    def lines(settings: list[tuple[PairBatch, int]]) -> dict[str, list[float]]:
        for work in works.values():  # warms up
            work(model, *settings[0])
        durations: dict[str, list[float]] = {name: [] for name in works}
        for setting in settings:
            for name, work in works.items():
                durations[name].append(round(seconds(partial(work, model, *setting)), 3))
        return durations

    return {
        "tokens": lines([(pairs(1, length, 0, model.device), STEPS) for length in LENGTHS]),
        "steps": lines([(pairs(1, 256, 0, model.device), steps) for steps in POINTS]),
    }


def draw_cost(found: dict[str, dict[str, list[float]]], path: Path) -> None:
    """The page of what `cost` found."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = (f"1 prompt, {STEPS} steps", "1 prompt of 256 tokens")
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles)
    for column, ((axis, lines), x) in enumerate(
        zip(found.items(), (LENGTHS, POINTS), strict=True), start=1
    ):
        for (name, line), style in zip(lines.items(), LOOKS, strict=True):
            trace = go.Scatter(x=x, y=line, name=name, showlegend=column == 1, **style)
            figure.add_trace(trace, 1, column)
        figure.update_xaxes(title_text=axis, rangemode="tozero", row=1, col=column)
    figure.update_yaxes(title_text="seconds", rangemode="tozero")
    figure.update_layout(
        template="plotly_white", height=380, margin={"l": 60, "r": 20, "t": 80, "b": 60}
    )
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1.2})
    figure.write_html(path, include_plotlyjs="inline", config={"displayModeBar": False})


def main() -> None:
    """Print one JSON line for each shape."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", choices=CONFIGS, default="gpt2")
    parser.add_argument("--layers", type=int, help="fewer than the shape has")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument(
        "--shapes", type=parsed_shape, nargs="+", default=SHAPES, metavar="NxLENGTH+SHARED"
    )
    parser.add_argument("--plot", type=Path, help="draw the cost by tokens and by steps instead")
    parser.add_argument("--only", nargs=4, metavar=("SIDE", "N", "LENGTH", "SHARED"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = random_model(arguments)
    if arguments.only:
        side, *shape = arguments.only
        n, length, shared = map(int, shape)
        SIDES[side](model, pairs(n, length, shared, model.device))
        print(high_water())
    elif arguments.plot:
        costs = cost(model)
        draw_cost(costs, arguments.plot)
        print(json.dumps(costs))
    else:
        for prompt_shape in arguments.shapes:
            ratios = compare(model, prompt_shape, arguments.repeats)
            print(json.dumps(ratios), flush=True)


if __name__ == "__main__":
    main()
