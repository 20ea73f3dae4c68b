"""Where models come from: a hub id with a revision, a local folder or GGUF file, a package, a PEFT
adapter on a base.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from circuits.errors import CircuitsError
from circuits.models.adapters import merge, recorded_base
from circuits.models.gguf.sources import PACKAGED, gguf_of
from circuits.models.language import auto_class
from circuits.models.load_errors import LOAD_ERRORS, first_sentence, reason, unfetched
from circuits.models.quantised import quantise
from circuits.models.tokenizer_file import as_file_says
from circuits.models.weight_loading import PLAIN, WeightLoading
from circuits.models.whole import require_sizes, require_whole

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
EMBEDDED = ("newsroom-gpt2",)
"""Models inside the package, known by name."""
_SHORT = (*EMBEDDED, *PACKAGED)
_VOCABULARIES = (
    *("tokenizer.json", "*.model", "vocab.*", "merges.txt", "*vocab*.json", "*.tiktoken"),
    "tekken.json",
)
"""Files of a tokenizer, each of which says that there is one."""

_STEP, _TRAINERS = "step-", "checkpoint-"  # the latter is what transformers' Trainer writes


@dataclass(frozen=True)
class Loaded:
    """A model, and what came with it.

    no_tokenizer: why there is none, where there is none. gguf: what a result must say of the file
    that the weights were read from, where it was one.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    no_tokenizer: str = ""
    gguf: Mapping[str, str] | None = None

    @property
    def words(self) -> PreTrainedTokenizerBase:
        """The tokenizer, where there must be one; a CircuitsError says why there is none."""
        return required(self.tokenizer, self.no_tokenizer)


def load_model(
    source: str | Path,
    *,
    base: str | Path | None = None,
    tokenizer: str | Path | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str = torch.float32,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """Load a model and, where there is one that can be read, its tokenizer.

    Args:
        source: "gpt2", "org/model@revision", an embedded model ("newsroom-gpt2"), a local folder, a
            GGUF file, a folder with one, a packaged one ("smollm2-135m", "gemma3-270m"), or a
            folder with a PEFT adapter, which is merged into its base.
        base: the model under an adapter, where its own record of it does not serve.
        tokenizer: such a source, whose tokenizer is taken in place of the model's own.
        device: where to; None takes the first accelerator, or the CPU.
        dtype: what to compute in.

    Returns:
        The model, and its tokenizer or None.

    Raises:
        CircuitsError: for a missing or incomplete folder, for an unreachable hub, and for weights
            that the model has and the checkpoint has not: transformers would draw them at random.
    """
    loaded = load(source, base=base, tokenizer=tokenizer, device=device, dtype=dtype)
    return loaded.model, loaded.tokenizer


def load(
    source: str | Path,
    *,
    base: str | Path | None = None,
    tokenizer: str | Path | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str = torch.float32,
    weights: WeightLoading = PLAIN,
) -> Loaded:
    """As `load_model`, with why there is no tokenizer, and what file the weights are from.

    weights: how they are kept.
    """
    precision = as_dtype(dtype)
    weights.require_one_place(source, device)
    target = as_device(device)
    name, revision = resolve(source)
    folder = Path(name)
    if (folder / "adapter_config.json").is_file():
        if weights.device_map is not None:
            raise CircuitsError(
                f"{source}: an adapter is merged on one device; save what it is merged into, and "
                "load that with a device map"
            )
        merged = _load_adapter(folder, base, tokenizer, target, precision)
        if weights.quantize is not None:
            quantise(merged.model, weights.quantize)
        return merged
    if base is not None:
        raise CircuitsError(f"{source}: a base model was given, but this is no PEFT adapter folder")
    asked = None if tokenizer is None else tokenizer_of(tokenizer)
    if folder.suffix == ".gguf":
        from circuits.models.gguf.container import GGUF
        from circuits.models.gguf.weights import load_weights

        file = GGUF.read(folder)
        how = weights.arguments(target, precision)
        loaded = Loaded(load_weights(file, precision, how), asked, gguf=file.record)
    else:
        loaded = Loaded(_load_weights(source, target, precision, weights), asked)
    if weights.device_map is None:
        torch.nn.Module.to(loaded.model, target)
    return loaded if asked else _with_tokenizer(loaded, name, revision)


def required(
    tokenizer: PreTrainedTokenizerBase | None, no_tokenizer: str
) -> PreTrainedTokenizerBase:
    """A tokenizer, refused with the reason where there is none."""
    if tokenizer is None:
        raise CircuitsError(f"{no_tokenizer}; name another one with --tokenizer (tokenizer=)")
    return tokenizer


def load_config(source: str | Path) -> PreTrainedConfig:
    """A model's configuration, without its weights; an adapter's is that of its base."""
    name, revision = resolve(source)
    if (Path(name) / "adapter_config.json").is_file():
        base = recorded_base(Path(name))
        with _named_by(Path(name)):
            return load_config(base)
    if name.endswith(".gguf"):
        from circuits.models.gguf.configuration import configuration
        from circuits.models.gguf.container import GGUF

        return configuration(GGUF.read(name))
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(name, revision=revision)
    except LOAD_ERRORS as error:
        raise CircuitsError(_why(source, Path(name), error)) from error
    config._commit_hash = None if Path(name).is_dir() else _commit(name, revision)
    require_sizes(source, config)
    config.return_dict = True  # a habit of the checkpoint's user, not of the model
    if config._attn_implementation not in (None, "eager", "sdpa"):  # and of the user's machine
        config._attn_implementation = None
    return config


def bases(source: str | Path) -> list[str]:
    """What an adapter goes onto: its base, and that one's if it is an adapter too; else nothing."""
    folder = Path(resolve(source)[0])
    if not (folder / "adapter_config.json").is_file():
        return []
    under = recorded_base(folder)
    return [under, *bases(under)]


def tokenizer_of(source: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer that a source has, or that the base has which its adapter names.

    Raises CircuitsError that says why there is none.
    """
    name, revision = resolve(source)
    folder = Path(name)
    if (folder / "adapter_config.json").is_file() and not _holds_vocabulary(folder):
        return tokenizer_of(recorded_base(folder))
    return load_tokenizer(name, revision)


def load_tokenizer(name: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model, at a place that `resolve` found.

    Raises CircuitsError that says why there is none: it is not there, or cannot be read.
    """
    if Path(name).suffix == ".gguf":
        from circuits.models.gguf.container import GGUF
        from circuits.models.gguf.tokenizer import load_tokenizer as of_gguf

        return of_gguf(GGUF.read(name))
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(name), revision=revision
        )
    except Exception as error:  # what the package tokenizers raises has no type of its own
        if Path(name).is_dir() and not _holds_vocabulary(Path(name)):  # ByT5's needs none
            raise CircuitsError(f"{name}: the folder holds no tokenizer") from error
        reason = unfetched(Path(name)) or f"{type(error).__name__}: {first_sentence(error)}"
        raise CircuitsError(f"{name}: its tokenizer cannot be read ({reason})") from error
    if not tokenizer.vocab_size:
        raise CircuitsError(f"{name}: its tokenizer is empty")
    return as_file_says(tokenizer, name, revision)


def checkpoint_series(base: str | Path, folder: str | Path) -> dict[str, str]:
    """A training run as names and places, in order.

    Args:
        base: what the run began with.
        folder: with `step-N` folders, or the `checkpoint-N` folders of transformers' Trainer.

    Returns:
        "base" and the folders' names -> places.

    Raises:
        CircuitsError: where the folder is missing or holds no such folders.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CircuitsError(f"{folder}: no such folder of checkpoints")
    steps = saved_steps(folder) or saved_steps(folder, _TRAINERS)
    if not steps:
        raise CircuitsError(f"{folder}: holds no checkpoints named step-N or checkpoint-N")
    return {"base": str(base), **{path.name: str(path) for path in steps.values()}}


def saved_steps(folder: Path, prefix: str = _STEP) -> dict[int, Path]:
    """The `step-N` folders in a folder by N, in order."""
    folders = {
        int(match[1]): path
        for path in folder.glob(f"{prefix}*")
        if path.is_dir() and (match := re.fullmatch(rf"{prefix}(\d+)", path.name))
    }
    return dict(sorted(folders.items()))


def resolve(source: str | Path) -> tuple[str, str | None]:
    """A local folder as it is, an embedded model's folder, a GGUF file (of a folder, of a package),
    or a hub id and its revision.

    A missing folder is refused, and a package that is not installed.
    """
    text = str(source)
    if not text.strip() or (text.startswith("@") and not Path(text).is_dir()):
        raise CircuitsError(f"{text!r}: names no model; give a hub id, a folder or a GGUF file")
    if text in EMBEDDED:
        return str(files("circuits").joinpath("assets", text)), None
    if (file := gguf_of(source)) is not None:
        return str(file), None
    folder = Path(text).expanduser()
    if folder.is_dir():
        return str(folder), None
    if folder.is_file():
        raise CircuitsError(f"{source}: a file; give the model's folder, or a .gguf file")
    if folder.suffix == ".gguf":
        raise CircuitsError(f"{source}: no such GGUF file")
    if "/" not in text and (near := get_close_matches(text.lower(), _SHORT, n=1, cutoff=0.8)):
        raise CircuitsError(f"{source}: names no model; did you mean {near[0]}?")
    name, _, revision = text.partition("@")
    if isinstance(source, Path) or text.startswith((".", "/", "~")) or name.count("/") > 1:
        raise CircuitsError(f"{source}: no such model folder")
    return name, revision or None


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A torch dtype from itself or its name ("bfloat16")."""
    if isinstance(dtype, torch.dtype):
        return dtype
    by_name = {str(torch_dtype).removeprefix("torch."): torch_dtype for torch_dtype in _DTYPES}
    if dtype not in by_name:
        raise CircuitsError(f"unknown dtype {dtype!r}; known: {', '.join(by_name)}")
    return by_name[dtype]


def as_device(device: torch.device | str | None) -> torch.device:
    """A device that is here, from its name; None is the first accelerator, or the CPU."""
    target = named_device(device)
    try:
        torch.zeros(1, device=target).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CircuitsError(
            f"{target}: no such device here; leave it out for the best there is"
        ) from error
    return target


def named_device(device: torch.device | str | None) -> torch.device:
    """As `as_device`, but the device need not be here."""
    try:
        if device is not None:
            return torch.device(device)
    except RuntimeError as error:
        raise CircuitsError(f"unknown device {device!r}; try cpu, cuda or cuda:0") from error
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def _load_weights(
    source: str | Path, device: torch.device, dtype: torch.dtype, weights: WeightLoading
) -> PreTrainedModel:
    """From a folder or the hub."""
    name, revision = resolve(source)
    config = load_config(source)
    weights.require_unquantised(source, config)
    try:
        model, loaded = auto_class(config).from_pretrained(
            name,
            revision=revision,
            config=config,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            **weights.arguments(device, dtype),
        )
    except LOAD_ERRORS as error:
        raise CircuitsError(_why(source, Path(name), error)) from error
    require_whole(source, model, loaded)
    pretrained: PreTrainedModel = model
    return pretrained


def _load_adapter(
    folder: Path,
    base: str | Path | None,
    tokenizer: str | Path | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Loaded:
    """An adapter merged into its base, with its own tokenizer if it has one."""
    asked = None if tokenizer is None else tokenizer_of(tokenizer)
    base_source = base or recorded_base(folder)
    with _named_by(None if base else folder):
        under = load(base_source, device=device, dtype=dtype)
    merged = replace(under, model=merge(under.model, folder))
    if asked is not None:
        return replace(merged, tokenizer=asked, no_tokenizer="")
    return _with_tokenizer(merged, str(folder), None) if _holds_vocabulary(folder) else merged


@contextmanager
def _named_by(adapter: Path | None) -> Iterator[None]:
    """Errors about a base say which adapter's record names it, where one does."""
    try:
        yield
    except CircuitsError as error:
        if adapter is None:
            raise
        record = adapter / "adapter_config.json"
        raise CircuitsError(f"{error}; named by base_model_name_or_path in {record}") from error


def _with_tokenizer(loaded: Loaded, name: str, revision: str | None) -> Loaded:
    """With the tokenizer at a place, or with why there is none: ready token ids need none."""
    try:
        return replace(loaded, tokenizer=load_tokenizer(name, revision), no_tokenizer="")
    except CircuitsError as error:
        return replace(loaded, tokenizer=None, no_tokenizer=str(error))


def _holds_vocabulary(folder: Path) -> bool:
    """Whether a folder has a tokenizer of its own, readable or not."""
    return any(next(folder.glob(pattern), None) for pattern in _VOCABULARIES)


def _commit(name: str, revision: str | None) -> str | None:
    """The commit that a hub model was read from, by where its configuration lies in the cache:
    transformers 5 does not say it any more, and an adapter on the model must.
    """
    file = try_to_load_from_cache(name, "config.json", revision=revision)
    match = re.search(r"snapshots/([0-9a-f]{40})/", file) if isinstance(file, str) else None
    return match[1] if match else None


def _why(source: str | Path, folder: Path, error: Exception) -> str:
    why = reason(error, folder / "config.json")
    if not folder.is_dir():
        return (
            f"{source}: not a local folder, and the hub did not give it ({why}); check "
            "the name, the revision and the network"
        )
    if not (folder / "config.json").is_file():
        inside = saved_steps(folder) or saved_steps(folder, _TRAINERS)
        hint = f"name one of its checkpoints, as {list(inside.values())[-1]}" if inside else ""
        return f"{source}: the folder holds no config.json; {hint or 'is it a model folder?'}"
    return f"{source}: the model folder cannot be loaded ({why})"
