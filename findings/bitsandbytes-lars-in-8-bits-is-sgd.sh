#!/usr/bin/env bash
# bitsandbytes: from 4,096 numbers on, `LARS8bit` is SGD with momentum, and a step is as long as the gradient says.
#
# Versions: bitsandbytes 0.50.2, torch 2.13.0, Python 3.11.
# Behaviour: LARS keeps each layer's step below a share of the layer's own norm (`max_unorm`, 0.02 by default),
# which is what it is chosen for and what lets its learning rates be so high. `LARS32bit` does so. The update
# in 8-bit blocks knows no norms: `LARS8bit` takes `max_unorm`, keeps it, and never looks at it. Nor is it
# all or nothing: parameters of fewer than `min_8bit_size` = 4,096 numbers stay in 32 bits and keep
# their bound: biases and small layers of one model train by LARS, its matrices by SGD. No message says so.
# (`LAMB8bit` has no bound either; its docstring says that, and it refuses any `max_unorm` but the default.)
# Seen, the first step's length as a share of the weight's: 63 x 64 numbers: 0.020 in 8 bits and in 32; 64 x 64
# numbers: 1.017 in 8 bits, 0.020 in 32, and 1.017 by torch's SGD. After 20 steps the norms are 1841, 66
# and 1843. The last line is "no bound from 4096 numbers on".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check bitsandbytes==0.50.2 torch==2.13.0
cat > "$work/try.py" <<'PY'
import bitsandbytes
import torch

torch.set_num_threads(1)
OPTIMIZERS = {
    "LARS8bit": lambda weights: bitsandbytes.optim.LARS8bit(weights, lr=1.0, momentum=0.9),
    "LARS32bit": lambda weights: bitsandbytes.optim.LARS32bit(weights, lr=1.0, momentum=0.9),
    "SGD": lambda weights: torch.optim.SGD(weights, lr=1.0, momentum=0.9),
}


def train(name, rows, steps=20):
    """The first step's length as a share of the weight's, and the weight after all of them."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(rows, 64, generator=draw))
    start = weight.detach().clone()
    optimizer = OPTIMIZERS[name]([weight])
    for step in range(steps):
        weight.grad = torch.randn(weight.shape, generator=draw)
        optimizer.step()
        if step == 0:
            first = ((weight.detach() - start).norm() / start.norm()).item()
    return first, weight.detach().norm().item()


for rows in (63, 64):
    seen = {name: train(name, rows) for name in OPTIMIZERS}
    for name, (first, norm) in seen.items():
        print(f"{rows} x 64, {name}: the first step is {first:.3f} of the weight, whose norm ends at {norm:.0f}")
    bounded, unbounded = seen["LARS32bit"], seen["SGD"]
    assert abs(bounded[0] - 0.02) < 1e-4 and unbounded[0] > 1
    right = bounded if rows == 63 else unbounded
    assert all(abs(have - want) < 0.01 * want for have, want in zip(seen["LARS8bit"], right, strict=True))
print("no bound from 4096 numbers on")
PY
"$work/venv/bin/python" "$work/try.py"
