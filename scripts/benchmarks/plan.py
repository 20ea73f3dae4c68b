"""What `circuits plan` predicts against what the job then takes.

    python scripts/benchmarks/plan.py [--models gpt2 llama ..] [--shapes 2x128 1x1024] [--shared 0]
        [--methods eap-ig eap clean-corrupted evaluate finetune ..] [--threads 1]
        [--accumulation 1] [--gradient-checkpointing] [--bf16]

Random weights; a fresh process a row, which does the job once on one batch for its peak memory, the
kernel's own mark, and again for the time (`--repeats`), of which the shortest counts: CPU time
where there is one thread, which other processes disturb less, else the clock's. The rates that the
prediction rests on are measured in the same process by the same clock. Training takes two steps.
One JSON line a row; `off` is predicted / measured - 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict

import torch
from attribution import high_water, pairs
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from circuits.attribution import METHODS, cost_of
from circuits.attribution import method as attribution_method
from circuits.evaluation import faithfulness
from circuits.graph import EdgeScores
from circuits.metrics import METRICS
from circuits.model_diff.head_types import HeadTypeKeys
from circuits.model_diff.paired_forward import diff_batch
from circuits.models import HookedModel
from circuits.models.inputs import shared_length
from circuits.options.run import RunOptions
from circuits.options.tuning import FinetuneSettings, StepOptions
from circuits.planning import JOBS, Job, Shape, measure_rates, plan, resident_bytes
from circuits.tuning.finetune import finetune
from circuits.tuning.targets import lora_config, wrap
from tasks.pairs import PairBatch, PairSet, PromptPair, TrainingExample

STEPS = {"eap-ig": 5, "finetune": 2, "lora": 2}
TRAINING = ("finetune", "lora")
TARGET = 32  # tokens of an example to train on
MODELS: dict[str, PreTrainedConfig] = {
    "gpt2": GPT2Config(),
    "llama": LlamaConfig(
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        vocab_size=50_257,
    ),
    "small-llama": LlamaConfig(
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=2,
        vocab_size=50_257,
    ),
    "gemma2": Gemma2Config(
        hidden_size=640,
        intermediate_size=2560,
        num_hidden_layers=10,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=128,
        vocab_size=50_257,
    ),
    "pythia": GPTNeoXConfig(
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=6,
        num_attention_heads=8,
        vocab_size=50_304,
    ),
}


def job_of(
    method: str, network: PreTrainedModel, batch: PairBatch, shape: Shape, step: StepOptions
) -> Callable[[], object]:
    """The job, ready to be done again and again."""
    if method in TRAINING:
        return training(method, network, shape, step)
    model, metric = HookedModel(network, None, method), METRICS["logit-difference"]
    if method == "evaluate":
        scores = EdgeScores(torch.randn(model.layout.shape) * model.layout.mask, model.layout, "")
        examples = pair_set(batch)
        options = RunOptions(batch_size=len(batch))
        return lambda: faithfulness(model, scores, examples, options=options)
    if method == "diff":
        other_model = HookedModel(AutoModelForCausalLM.from_config(network.config), None, "other")
        return lambda: diff_batch(model, other_model, batch, HeadTypeKeys.of_text(batch, {}))
    scorer = attribution_method(method, steps=STEPS.get(method))
    return lambda: scorer.scores(model, batch, metric)


def pair_set(batch: PairBatch) -> PairSet:
    """The batch as pairs."""
    rows = zip(batch.clean.tolist(), batch.corrupted.tolist(), strict=True)
    examples = (PromptPair(tuple(a), tuple(b), ((1,),), ((2,),)) for a, b in rows)
    return PairSet(tuple(examples), metric="logit-difference")


def training(
    method: str, network: PreTrainedModel, shape: Shape, step: StepOptions
) -> Callable[[], object]:
    """Two steps on random examples."""
    model = wrap(network, lora_config(None, network)) if method == "lora" else network
    tokens = torch.randint(50_000, (2 * shape.batch, shape.length + 1)).tolist()
    examples = [TrainingExample(tuple(row[:-TARGET]), tuple(row[-TARGET:])) for row in tokens]
    settings = FinetuneSettings(
        steps=STEPS[method],
        learning_rate=1e-5,
        warmup_steps=1,
        batch_size=shape.batch,
        **asdict(step),
    )

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            finetune(model, examples, folder, settings=settings, progress=False)

    return work


def measure(
    name: str, method: str, n: int, length: int, shared: int, repeats: int, step: StepOptions
) -> dict[str, object]:
    """Do one job in this process: peak bytes, seconds, and the rates of the device."""
    torch.manual_seed(0)
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    overhead = resident_bytes()
    batch, is_training = pairs(n, length, shared), method in TRAINING
    step = step if is_training else StepOptions()
    shape = Shape(n, length, TARGET if is_training else 1, shared=shared_length(batch))
    work = job_of(method, AutoModelForCausalLM.from_config(MODELS[name]), batch, shape, step)
    work()
    peak, durations = high_water() * 1024, []
    for _ in range(repeats):
        start = clock()
        work()
        durations.append(clock() - start)
    job = Job(shape, cost_of(method), STEPS.get(method), n, step=step)
    estimate = plan(MODELS[name], job, overhead=overhead)
    row = {
        "model": name,
        "method": method,
        "shape": f"{n} x {length}",
        "shared": estimate.job.shape.shared,
        "step": asdict(step),
        "predicted_gigabytes": round(estimate.total / 1e9, 3),
        "measured_gigabytes": round(peak / 1e9, 3),
        "memory_off": round(estimate.total / peak - 1, 3),
    }
    if not durations:
        return row
    rates = measure_rates(estimate.sizes, length, torch.device("cpu"), job.multiplied_in, clock)
    predicted = estimate.seconds(rates)
    return {
        **row,
        "predicted_seconds": round(predicted, 2),
        "measured_seconds": round(min(durations), 2),
        "time_off": round(predicted / min(durations) - 1, 3),
        "gigaflops": [round(rates.matmul / 1e9, 1), round(rates.attention / 1e9, 1)],
        "gigabytes_a_second": round(rates.moved / 1e9, 1),
    }


def main() -> None:
    """Print one JSON line a model, method and shape, each from a fresh process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["gpt2", "llama"])
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, *JOBS], default=["eap-ig"])
    parser.add_argument("--shapes", nargs="+", default=["2x128", "1x512", "1x1024"])
    parser.add_argument("--shared", type=int, default=0, help="tokens that the prompts share")
    parser.add_argument("--repeats", type=int, default=1, help="runs timed; 0 for memory alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--here", action="store_true", help="measure in this process")
    arguments = parser.parse_args()
    rows = [
        (model, method, shape)
        for model in arguments.models
        for method in arguments.methods
        for shape in arguments.shapes
    ]
    step = StepOptions(
        accumulation=arguments.accumulation,
        gradient_checkpointing=arguments.gradient_checkpointing,
        bf16=arguments.bf16,
    )
    if arguments.here:
        torch.set_num_threads(arguments.threads)
        for model, method, shape in rows:
            n, length = map(int, shape.split("x"))
            row = measure(model, method, n, length, arguments.shared, arguments.repeats, step)
            print(json.dumps(row))
        return
    for model, method, shape in rows:
        command = [sys.executable, __file__, "--here", "--models", model, "--methods", method]
        command += ["--shapes", shape, "--shared", str(arguments.shared)]
        command += ["--repeats", str(arguments.repeats), "--threads", str(arguments.threads)]
        command += ["--accumulation", str(step.accumulation)]
        command += ["--gradient-checkpointing"] if step.gradient_checkpointing else []
        command += ["--bf16"] if step.bf16 else []
        process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        print(process.stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
