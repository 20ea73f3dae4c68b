"""Fine-tunes in as many processes as it is launched in, all of which die at step STOP_AT if told.

accelerate launch ... launch_worker.py MODEL OUT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from kill_worker import EXAMPLES
from transformers import AutoModelForCausalLM

from circuits.options.tuning import FinetuneSettings
from circuits.tuning.finetune import finetune

SETTINGS = FinetuneSettings(
    steps=7,
    learning_rate=1e-2,
    warmup_steps=1,
    batch_size=3,
    checkpoint_steps=(3,),
    validate_every=2,
    save_state_every=2,
    accumulation=2,
)


def main(model_folder: str, out: Path) -> None:
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # each process draws its own
    step, taken = torch.optim.AdamW.step, []

    def counted(*given: object, **named: object) -> object:
        taken.append(1)
        if len(taken) == int(os.environ.get("STOP_AT", "-1")):
            os._exit(9)
        return step(*given, **named)

    torch.optim.AdamW.step = counted
    finetune(model, EXAMPLES, out, settings=SETTINGS, validation=EXAMPLES[:3], progress=False)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
