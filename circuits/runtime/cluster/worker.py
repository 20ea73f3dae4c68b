"""What runs in a worker's process: one model at a time, and the work that is done on it."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from circuits.errors import CircuitsError
from circuits.runtime.cluster.packing import packed, unpacked
from circuits.runtime.oom import out_of_memory

if TYPE_CHECKING:
    from ray import ObjectRef

Kind = Literal["done", "memory", "load", "error"]


@dataclass(frozen=True)
class Outcome:
    """What came of a piece of work.

    kind: done, with its value; memory: the device had none left; load: the model could not be
        loaded; error: it failed by itself. text: what was said.
    """

    kind: Kind
    value: object = None
    error: Exception | None = None
    text: str = ""


@dataclass(frozen=True)
class Job:
    """What is done with each piece, by reference: what it refers to is fetched once.

    model: key of the recipe, None for work without a model. name: what messages call it.
    recipe, work: where their bytes are, each in a list, so that Ray hands on the reference and not
    the bytes.
    """

    model: str | None
    name: str
    recipe: list[ObjectRef[bytes]]
    key: str
    work: list[ObjectRef[bytes]]


class Worker:
    """An actor of Ray's. A model is kept until work on another one comes."""

    def __init__(self, threads: int, device: str) -> None:
        import transformers

        torch.set_num_threads(threads)
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        logging.disable(logging.WARNING)  # the driver says once what all would say
        self._device = device
        self._model_key: str | None = None
        self._model: object = None
        self._work_key = ""
        self._work: Callable[..., object] | None = None

    def node(self) -> str:
        """The machine that it is on."""
        import ray

        return str(ray.util.get_node_ip_address())

    def run(self, job: Job, argument: bytes) -> bytes:
        """Do a job's work on one piece; whatever goes wrong is told and not raised."""
        try:
            self._prepare(job)
        except Exception as error:
            return packed(Outcome("load", text=f"{type(error).__name__}: {error}"))
        try:
            piece = unpacked(argument)
            assert self._work is not None
            value = self._work(piece) if job.model is None else self._work(self._model, piece)
            return packed(Outcome("done", value))
        except Exception as error:
            if isinstance(error, RuntimeError) and out_of_memory(error):
                error.__traceback__ = None  # it holds the tensors that did not fit
                return packed(Outcome("memory", text=str(error)))
            return packed(Outcome("error", error=_portable(error), text=str(error)))

    def _prepare(self, job: Job) -> None:
        import ray

        if job.model != self._model_key:
            self._work, self._work_key = None, ""
            self._model, self._model_key = None, None  # gives its memory back first
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if job.model is not None:
                load = unpacked(ray.get(job.recipe[0]))
                assert callable(load)
                self._model = load(self._device)
            self._model_key = job.model
        if job.key != self._work_key:
            work = unpacked(ray.get(job.work[0]))
            assert callable(work)
            self._work = work
            self._work_key = job.key


def _portable(error: Exception) -> Exception:
    """The error itself where another process can read it, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        kind = CircuitsError if isinstance(error, CircuitsError) else RuntimeError
        return kind(f"{type(error).__name__}: {error}")
    return error
