"""Time of corrected gradients against EAP's: what their rules cost.

    python scripts/benchmarks/corrected.py [--models gpt2-shape smollm2-135m] [--shapes 2x128]
        [--layers 4] [--repeats 7]

EAP, RelP and GIM in turn in one process, edges of one batch of random prompts; CPU time of all
threads. `gpt2-shape` is GPT-2 small's width with random weights and `--layers` layers. One JSON
line a model and shape: the median over turns of each method's time over EAP's of the same turn, and
EAP's seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from attribution import pairs
from transformers import AutoModelForCausalLM, GPT2Config

from circuits.attribution import method
from circuits.metrics import METRICS
from circuits.models import HookedModel

SIDES = ("eap", "relp", "gim")


def loaded(name: str, layers: int) -> HookedModel:
    """A packaged model, or the shape of one."""
    if name != "gpt2-shape":
        return HookedModel.from_pretrained(name, device="cpu")
    torch.manual_seed(0)
    return HookedModel(AutoModelForCausalLM.from_config(GPT2Config(n_layer=layers)), None, name)


def main() -> None:
    """Print one line a model and shape."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["gpt2-shape", "smollm2-135m"])
    parser.add_argument("--shapes", nargs="+", default=["2x128"])
    parser.add_argument("--layers", type=int, default=4, help="of gpt2-shape")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.models:
        model = loaded(name, options.layers)
        for shape in options.shapes:
            n, length = map(int, shape.split("x"))
            batch = pairs(n, length, 0)
            seconds: dict[str, list[float]] = {side: [] for side in SIDES}
            for turn in range(options.repeats + 1):
                for side in SIDES:
                    start = time.process_time()
                    method(side).scores(model, batch, METRICS["logit-difference"])
                    if turn:  # the first one makes what is made once a model
                        seconds[side].append(time.process_time() - start)
            ratios = {
                side: statistics.median(
                    side_time / eap
                    for side_time, eap in zip(seconds[side], seconds["eap"], strict=True)
                )
                for side in SIDES[1:]
            }
            eap = statistics.median(seconds["eap"])
            rounded = {side: round(ratio, 3) for side, ratio in ratios.items()}
            print(json.dumps({"model": name, "shape": shape, "eap_s": round(eap, 3), **rounded}))


if __name__ == "__main__":
    main()
