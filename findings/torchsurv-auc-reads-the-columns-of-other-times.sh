#!/usr/bin/env bash
# torchsurv: the AUC of a risk that changes with time is computed from other times' columns, and the
# two-sided test of a Brier score knows one side only.
#
# Versions: torchsurv 0.2.0, torchmetrics 1.9.0, torch 2.13.0, scipy 1.17.1, pandas 3.1.1, Python 3.11.
# Behaviour: 1. `Auc` takes a square of risks, column j at the time of subject j, and without `new_time`
# evaluates at the event times. It looks the columns up by place among the events, in the square of all: behind
# the first row that is left out (censored, or the last of all) they belong to other subjects' times. With
# `new_time` and the columns chosen by hand it is right.
# 2. `BrierScore.p_value(method="parametric", null_value=...)`: two-sided, the side is chosen by whether the
# score is above 0.5, not above `null_value`. A score above the null value and below 0.5, as nearly all
# are, has p = 1, however far it is.
# Nothing is said of either.
# Seen, 60 subjects, about half of them censored: the best risk there is (who has left by then) has an AUC of 1 by
# definition and with the times named, and 0.72 on average from the square, 0.52 at the lowest. A Brier score of
# 0.22 against 0.1: p 5e-05 greater, 1 two-sided. The last line is "other columns, and one side for two".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    torchsurv==0.2.0 torchmetrics==1.9.0 torch==2.13.0 pandas==3.1.1 scipy==1.17.1 numpy==2.4.6
cat > "$work/try.py" <<'PY'
import warnings

import torch
from torchsurv.metrics.auc import Auc
from torchsurv.metrics.brier_score import BrierScore

warnings.simplefilter("error")  # nothing is said of it
torch.manual_seed(0)
SUBJECTS = 60

time = 1.0 + torch.randperm(SUBJECTS).float()  # no ties
event = torch.rand(SUBJECTS) < 0.5
at = time[event & (time < time.max())].sort().values
columns = torch.stack([(time == moment).nonzero()[0, 0] for moment in at])


def by_hand(risk, moment):
    """Of the pairs of one ill by then and one not: the share in which the ill one's risk is the higher."""
    ill, well = risk[event & (time <= moment)], risk[time > moment]
    return ((ill[:, None] > well).float() + 0.5 * (ill[:, None] == well).float()).mean()


gone = (time[:, None] <= time).float()  # column j: who has left by the time of subject j
for name, risk in (("perfect", gone), ("noisy", gone + 0.5 * torch.randn(SUBJECTS, SUBJECTS))):
    right = torch.stack([by_hand(risk[:, column], moment) for column, moment in zip(columns, at, strict=True)])
    square = Auc()(risk, event, time)
    named = Auc()(risk[:, columns], event, time, new_time=at)
    print(f"{name} risk, mean AUC by hand {right.mean():.2f}, of the square {square.mean():.2f}", end=" ")
    print(f"(lowest {square.min():.2f}), with the times named {named.mean():.2f}")
    assert torch.allclose(named, right, atol=1e-5) and right.mean() - square.mean() > 0.2
    # The places among the event times are taken for places among all times.
    places = time[event & (time < time.max())].argsort()
    taken = torch.stack([by_hand(risk[:, place], moment) for place, moment in zip(places, at, strict=True)])
    assert torch.allclose(square, taken, atol=1e-5)
assert right.mean() > 0.9

alive = torch.sigmoid(torch.randn(SUBJECTS, 1)) * torch.ones(SUBJECTS, 1)
score = BrierScore()
value = score(alive, event, time, new_time=torch.tensor([SUBJECTS / 2.0])).item()
for null in (0.1, 0.6):
    less, greater, both = (
        score.p_value(method="parametric", alternative=side, null_value=null).item()
        for side in ("less", "greater", "two_sided")
    )
    said = f"p {greater:.0e} greater, {less:.0e} less, {both:.0e} two-sided"
    print(f"Brier score {value:.2f} against {null}: {said}")
    assert min(less, greater) < 1e-3 and (both == 1 if null < value < 0.5 else both < 1e-3)
assert 0.1 < value < 0.5
print("other columns, and one side for two")
PY
"$work/venv/bin/python" "$work/try.py"
