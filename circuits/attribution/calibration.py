"""Weights that fit what is known of the metric along the path.

With each gradient come the metric m and its slope m' = dm/da at that point, a = 0 .. 1 from
corrupted to clean. So three integrals are known without another pass,

    int 1 da = 1,    int m' da = m(1) - m(0),    int m da  (of the cubic through all m and m'),

the second exactly. *Calibrated* weights are those nearest to a rule's own, in the sense of
sum_k (v_k - w_k)^2 / w_k, that give all three. They are right for every edge whose gradient runs
like the metric's slope (a peak where the model changes its mind), like the metric itself (a step
there) or not at all. Fewer than four points have less to fit: three the first two integrals; one or
two are scaled to the second.

Source: calibration weighting (Deville & Saerndal 1992, "Calibration Estimators in Survey
Sampling"); docs/quadrature.md measures it. How far scores move under calibrated weights is the
estimate of their error that every result holds.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from circuits.attribution.quadrature import Rule

_RIDGE = 1e-6  # of the equations' size: rows that say the same do not blow up rounding


def calibrated_weights(
    rule: Rule,
    metric: Float[Tensor, "point batch"],
    slope: Float[Tensor, "point batch"],
    corrupted: Float[Tensor, " batch"],
    clean: Float[Tensor, " batch"],
) -> Float[Tensor, "point batch"]:
    """The weights for each example, float64; points in order of the path."""
    nodes = torch.tensor(rule.nodes, dtype=torch.float64)
    own = torch.tensor(rule.weights, dtype=torch.float64)
    slope, start = slope.detach().cpu().double(), corrupted.detach().cpu().double()
    risen = metric.detach().cpu().double() - start
    moved = clean.detach().cpu().double() - start
    if len(nodes) < 3:
        along, size = own @ slope, torch.maximum(own @ slope.abs(), moved.abs())
        return own[:, None] * (1 - (along - moved) / size.clamp(min=torch.finfo(size.dtype).tiny))
    rows, targets = [torch.ones_like(slope), slope], [torch.ones_like(moved), moved]
    if len(nodes) > 3:
        rows.append(risen)
        targets.append(_integral(nodes, risen, slope, moved))
    matrix = rearrange(rows, "equation point example -> example equation point")
    target = rearrange(targets, "equation example -> example equation")
    size = matrix.abs().amax(dim=2).clamp(min=torch.finfo(matrix.dtype).tiny)
    matrix, target = matrix / size[..., None], target / size
    normal = torch.einsum("bik,k,bjk->bij", matrix, own, matrix)
    trace = normal.diagonal(dim1=1, dim2=2).mean(dim=1)
    normal = normal + _RIDGE * trace[:, None, None] * torch.eye(len(rows), dtype=normal.dtype)
    factors = torch.linalg.solve(normal, target - torch.einsum("bik,k->bi", matrix, own))
    return own[:, None] + own[:, None] * torch.einsum("bik,bi->kb", matrix, factors)


def _integral(
    nodes: Float[Tensor, " point"],
    risen: Float[Tensor, "point batch"],
    slope: Float[Tensor, "point batch"],
    moved: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Of the cubics through the points; out to an end that is no point, of the parabola."""
    width = nodes.diff()[:, None]
    inside = width / 2 * (risen[1:] + risen[:-1]) + width**2 / 12 * (slope[:-1] - slope[1:])
    before, after = nodes[0], 1 - nodes[-1]
    first = before * risen[0] * 2 / 3 - before**2 * slope[0] / 6
    last = after * (risen[-1] * 2 / 3 + moved / 3) + after**2 * slope[-1] / 6
    return inside.sum(dim=0) + first + last
