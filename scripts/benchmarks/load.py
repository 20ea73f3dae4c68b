"""What passes before the first pair: imports, reading, the check of the view, the batch plan.

    python scripts/benchmarks/load.py [--model FOLDER] [--repeats 5] [--base selfcheck.py]

The check is timed on a model of SmolLM2-135M's shape with random weights (or on --model), with half
of its layers and with all, beside one plain forward pass of 16 tokens. --base names another
version of circuits/models/selfcheck.py, which takes turns with ours in one process:

    git show a1534ba:circuits/models/selfcheck.py > /tmp/selfcheck.py

Phases are those of `circuits discover` in a fresh process, with --model (or the embedded model).
All times are processor seconds on one thread, the smallest of the repeats. One JSON line.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from circuits.models import HookedModel, load_model
from circuits.models.selfcheck import check_view

PHASES = """
import json, sys, time
import torch
torch.set_num_threads(1)
marks = {"start": time.process_time()}
def mark(name): marks[name] = time.process_time()
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerFast
import transformer_lens
mark("imports of libraries")
import circuits.cli.app, circuits.attribution
from circuits.provenance import describe_model
from circuits.models import HookedModel, load_model
from circuits.attribution import cost_of
from circuits.planning import choose_batch_size
import tasks
mark("imports of this package")
hf, tokenizer = load_model(sys.argv[1], device="cpu")
mark("reading")
model = HookedModel(hf, tokenizer, sys.argv[1])
mark("view and its check")
pairs = tasks.load("ioi").pairs(tokenizer, n=32, split="validation")
mark("pairs")
choose_batch_size(model, pairs, cost_of("eap-ig"), 5)
mark("batch plan")
describe_model(model)
mark("fingerprint of the weights")
print(json.dumps(marks))
"""


def shape(layers: int) -> PreTrainedModel:
    """SmolLM2-135M's shape, random weights."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=49152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=layers,
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
        )
    )


def shortened(source: str, share: int) -> PreTrainedModel:
    """A model's first layers."""
    model = load_model(source, device="cpu")[0]
    layers = model.base_model.layers
    assert isinstance(layers, nn.ModuleList)
    first_layers = layers[: len(layers) // share]
    model.base_model.layers = first_layers
    model.config.num_hidden_layers = len(first_layers)
    return model


def shortest(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Processor seconds of each side, taking turns."""
    durations: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            start = time.process_time()
            side()
            durations[name].append(time.process_time() - start)
    return {name: round(min(times), 3) for name, times in durations.items()}


def checks(hf: PreTrainedModel, repeats: int, base: str | None) -> dict[str, float]:
    """Seconds of the check, of the other version's, and of one forward pass."""
    model = HookedModel(hf, None, "benchmark")
    tokens = torch.randint(model.d_vocab, (2, 8), generator=torch.Generator().manual_seed(0))

    def forward() -> None:
        with torch.no_grad():
            hf(input_ids=tokens, use_cache=False)

    sides: dict[str, Callable[[], object]] = {"check": lambda: check_view(model)}
    if base is not None:
        spec = importlib.util.spec_from_file_location("other_selfcheck", base)
        assert spec is not None and spec.loader is not None
        other_module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(other_module)
        sides["other"] = lambda: other_module.check_view(model)
    return shortest({**sides, "forward": forward}, repeats)


def phases(model: str) -> dict[str, float]:
    """Seconds of each phase, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", PHASES, model], check=True, capture_output=True, text=True
    )
    marks = json.loads(run.stdout.splitlines()[-1])
    names = list(marks)
    durations = {
        current: round(marks[current] - marks[previous], 2) for previous, current in pairwise(names)
    }
    return {"torch": round(marks["start"], 2), **durations, "all": round(marks[names[-1]], 2)}


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="a folder; its layers stand in base_model.layers")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--base", help="another version of selfcheck.py")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seconds = {}
    for share in (2, 1):
        hf = shortened(arguments.model, share) if arguments.model else shape(30 // share)
        layers = hf.config.get_text_config().num_hidden_layers
        seconds[f"{layers} layers"] = checks(hf, arguments.repeats, arguments.base)
    print(json.dumps({"check": seconds, "phases": phases(arguments.model or "newsroom-gpt2")}))


if __name__ == "__main__":
    main()
