"""What an object holds in tensors, found by following every reference from it."""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType

from torch import Tensor


def reachable_bytes(root, outside):
    """Bytes of the floating-point storages that one object reaches and another does not."""
    mine, others = _storages(root), _storages(outside)
    return sum(size for key, size in mine.items() if key not in others)


def _storages(root):
    """Bytes of each storage, by address; functions are not followed, for they reach everything."""
    seen, waiting, found = set(), [root], {}
    while waiting:
        held = waiting.pop()
        if id(held) in seen or isinstance(held, ModuleType | type | FunctionType):
            continue
        seen.add(id(held))
        if isinstance(held, Tensor):
            if held.is_floating_point():
                storage = held.untyped_storage()
                found[storage.data_ptr()] = storage.nbytes()
            continue
        waiting += gc.get_referents(held)
    return found
