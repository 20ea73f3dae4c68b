"""The machine: Python, device, memory, disk, and the hub's cache."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from circuits.doctor.diagnosis import Finding

_OLDEST = (3, 11)
_LITTLE, _TOO_LITTLE = 10e9, 5e8  # bytes of disk


def python() -> Finding:
    """Which Python, on which system."""
    text = f"{platform.python_version()} ({sys.executable}), {platform.platform(terse=True)}"
    if sys.version_info < _OLDEST:
        return Finding("failed", f"{text}; {'.'.join(map(str, _OLDEST))} or newer is needed")
    return Finding("ok", text)


def device() -> Finding:
    """What models run on where nothing else is asked for."""
    import torch

    from circuits.format import counted
    from circuits.models.checkpoints import as_device

    target = as_device(None)
    if target.type == "cuda":
        return Finding("ok", f"cuda: {counted(torch.cuda.device_count(), 'GPU')}, {_gpus()}")
    threads = counted(torch.get_num_threads(), "thread")
    text = f"{target.type}, {threads} of {counted(os.cpu_count() or 1, 'core')}"
    if target.type == "cpu" and torch.version.cuda is not None and shutil.which("nvidia-smi"):
        return Finding(
            "note",
            f"{text}; torch was built for CUDA {torch.version.cuda} and sees no GPU: does "
            "nvidia-smi list one, and is the driver new enough?",
        )
    return Finding("ok", text)


def memory() -> Finding:
    """Memory that is free, of the device and of the host."""
    from circuits.format import memory as as_memory
    from circuits.models.checkpoints import as_device
    from circuits.planning.device import available_memory, host_memory, total_memory

    free, total = host_memory("MemAvailable"), host_memory("MemTotal")
    text = f"{as_memory(free)} of {as_memory(total)} free"
    target = as_device(None)
    if target.type == "cuda":
        gpu = f"{as_memory(available_memory(target))} of {as_memory(total_memory(target))}"
        text = f"GPU {gpu} free; host {text}"
    return Finding("note" if free < 2e9 else "ok", text)


def disk() -> Finding:
    """Room where results, downloads and joined models go, and whether they can be written."""
    from circuits.format import memory as as_memory
    from circuits.models.gguf.sources import cache_folder

    folders = {"here": Path.cwd(), "hub cache": _hub_cache(), "model cache": cache_folder()}
    amounts, least, unwritable = [], float("inf"), []
    for name, folder in folders.items():
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        least = min(least, free)
        amounts.append(f"{name} {as_memory(free)}")
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError:
            unwritable.append(f"{folder} cannot be written to")
    text = f"free: {', '.join(amounts)}"
    if unwritable:
        return Finding("failed", f"{text}; {'; '.join(unwritable)}")
    if least < _TOO_LITTLE:
        return Finding("failed", f"{text}; scores and checkpoints will not fit")
    return Finding("note" if least < _LITTLE else "ok", text)


def hub() -> Finding:
    """Where models from the hub are kept, and whether they may be fetched."""
    from huggingface_hub import constants

    from circuits.format import counted

    cache = _hub_cache()
    n_models = len([*cache.glob("models--*")]) if cache.is_dir() else 0
    text = f"{counted(n_models, 'model')} in {cache}"
    if constants.HF_HUB_OFFLINE:
        return Finding("note", f"{text}; offline: HF_HUB_OFFLINE forbids downloads")
    return Finding("ok", f"{text}; downloads are allowed (the network is not tried)")


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _gpus() -> str:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(dict.fromkeys(names))
