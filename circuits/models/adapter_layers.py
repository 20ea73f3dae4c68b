"""The class of PEFT's adapted layers, without importing PEFT."""

from __future__ import annotations

import sys


def adapter_layer_types() -> tuple[type, ...]:
    """The class that every adapted layer has; none while PEFT is not imported, since none is there.

    To import PEFT takes seconds where bitsandbytes is installed, whose import compiles kernels.
    """
    if "peft" not in sys.modules:
        return ()
    from peft.tuners.tuners_utils import BaseTunerLayer

    return (BaseTunerLayer,)
