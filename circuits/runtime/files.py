"""Files that are either whole or absent: temporary name, fsync, rename. One process a folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from circuits.errors import CircuitsError, error_context, unrepeated

LOCK = ".lock"
_UMASK = os.umask(0o077)  # can only be read by setting it
os.umask(_UMASK)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, file or folder, renamed to it when the block succeeds.

    A process killed at any moment leaves `path` as it was. A folder takes the place of a folder
    that was there; a file never does.

    Args:
        path: what to write.

    Yields:
        The temporary path to write to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        temporary = holder / path.name
        yield temporary
        _sync(temporary)
        if path.is_dir():
            if not temporary.is_dir():
                raise CircuitsError(f"{path}: a folder; give a file")
            path.rename(holder / ".replaced")
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def drop_folder(path: Path) -> None:
    """Remove a folder that a killed process must not leave half of: first its name goes.

    Args:
        path: the folder.
    """
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    path.rename(holder / path.name)
    shutil.rmtree(holder, ignore_errors=True)


@contextmanager
def working_in(folder: str | Path, names: str) -> Iterator[None]:
    """Make a folder and work in it alone: another process is refused until the block ends.

    The system frees the lock of a process that dies.

    Args:
        folder: where to work.
        names: a regular expression for what is written here; what a killed process left half
            written of that is removed.

    Yields:
        Nothing.

    Raises:
        CircuitsError: where another process works in it.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout as error:
        raise CircuitsError(
            f"{folder}: another process works in this folder; wait for it, or choose another folder"
        ) from error
    except OSError as error:
        raise CircuitsError(f"{folder}: cannot be written to ({error.strerror})") from error
    with lock:
        for leftover in leftovers(folder, names):
            shutil.rmtree(leftover)
        yield


def leftovers(folder: Path, names: str) -> list[Path]:
    """Temporary folders that `atomic_path` made in a folder for the names that match.

    Args:
        folder: where to look.
        names: a regular expression for the names of what was written.

    Returns:
        The temporary folders.
    """
    pattern = re.compile(rf"\.({names})\.[a-z0-9_]{{8}}")  # as `tempfile.mkdtemp` ends names
    return [path for path in folder.glob(".*") if path.is_dir() and pattern.fullmatch(path.name)]


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically.

    Args:
        path: the file.
        text: its content.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    """Write JSON atomically: sorted keys, so that equal values are equal bytes; no NaN.

    Args:
        path: the file.
        value: JSON values.
    """
    encoder = json.JSONEncoder(indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        # One after the other, for all pieces together take several times what the file does.
        file.writelines(encoder.iterencode(value))
        file.write("\n")


def read_object(path: str | Path) -> dict[str, object]:
    """Read a JSON file that holds an object.

    Args:
        path: the file.

    Returns:
        Its keys and values.

    Raises:
        CircuitsError: as `read_json`, and where the file holds no object.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise CircuitsError(f"{path}: holds no JSON object")
    return content


def read_json(path: str | Path) -> object:
    """Read JSON; what is missing or malformed is a `CircuitsError` that names the file.

    So is an object that has a key twice.

    Args:
        path: the file.

    Returns:
        Its JSON values.

    Raises:
        CircuitsError: where it is missing or malformed, or an object has a key twice, by its name.
    """
    try:
        with error_context(str(path)):
            return json.loads(
                Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=unrepeated
            )
    except FileNotFoundError as error:
        raise CircuitsError(f"{path}: no such file") from error
    except OSError as error:
        raise CircuitsError(f"{path}: cannot be read ({error.strerror})") from error
    except CircuitsError:
        raise
    except (ValueError, RecursionError) as error:  # of no JSON, too many digits, nested too deep
        raise CircuitsError(f"{path}: not a JSON file ({error})") from error


def fingerprint(path: str | Path) -> str:
    """SHA-256 of a file's bytes, or of the names and bytes of a folder's files.

    Hidden files do not count, nor do folders within the folder.

    Args:
        path: a file, or a folder.

    Returns:
        The digest.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(
            entry for entry in path.iterdir() if entry.is_file() and entry.name[0] != "."
        )
        content = json.dumps([(file.name, fingerprint(file)) for file in files])
        return hashlib.sha256(content.encode()).hexdigest()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CircuitsError(f"{path}: cannot be read ({error.strerror})") from error


def _sync(path: Path) -> None:
    if path.is_dir():
        for child in path.iterdir():
            _sync(child)
        _sync_folder(path)
        return
    path.chmod(0o666 & ~_UMASK)  # safetensors makes its files for the owner alone
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
