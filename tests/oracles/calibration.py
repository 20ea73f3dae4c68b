"""Calibrated weights the slow way: a constrained least-squares problem, solved as one."""

import numpy as np


def nearest_weights(points, metric, slope, corrupted, clean):
    """Weights nearest to the rule's own that give 1, the metric's rise and its integral."""
    own, x = np.array(points.weights), np.array(points.nodes)
    rows, known = [np.ones_like(x), slope], [1.0, clean - corrupted]
    if len(x) > 3:
        rows.append(metric)
        known.append(integral_of_metric(x, metric, slope, corrupted, clean))
    a = np.stack(rows)
    # Stationary point of sum (v - w)^2 / 2w - lambda (a v - known)
    system = np.block([[np.diag(1 / own), -a.T], [a, np.zeros((len(a), len(a)))]])
    return np.linalg.lstsq(system, np.concatenate([np.ones_like(x), known]), rcond=None)[0][
        : len(x)
    ]


def integral_of_metric(x, metric, slope, corrupted, clean):
    """Of the polynomials fitted to what is known at both ends of each piece."""
    total = 0.0
    for k in range(len(x) - 1):
        total += piece(
            (x[k], x[k + 1]), (metric[k], metric[k + 1]), (x[k], x[k + 1]), slope[k : k + 2]
        )
    if x[0] > 0:
        total += piece((0.0, x[0]), (corrupted, metric[0]), (x[0],), slope[:1])
    if x[-1] < 1:
        total += piece((x[-1], 1.0), (metric[-1], clean), (x[-1],), slope[-1:])
    return total


def piece(places, values, slope_places, slopes):
    """The integral between two places of the polynomial with these values and slopes."""
    powers = np.arange(len(values) + len(slopes))
    rows = [place**powers for place in places]
    rows += [
        powers * np.where(powers > 0, place ** np.maximum(powers - 1.0, 0), 0)
        for place in slope_places
    ]
    factors = np.linalg.solve(np.array(rows, dtype=float), np.array([*values, *slopes]))
    low, high = places
    return float(factors @ ((high ** (powers + 1.0) - low ** (powers + 1.0)) / (powers + 1)))
