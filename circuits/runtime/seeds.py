"""Seeds for random numbers of one step, example or order."""

from __future__ import annotations

import numpy as np


def mixed_seed(*numbers: int) -> int:
    """One seed for a combination of numbers, such as a run's seed and a step.

    A generator of torch looks at the lower 32 bits of its seed alone, on a CPU: what is put above
    them draws the same numbers.

    Args:
        *numbers: 0 or more, each.

    Returns:
        32 bits.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
