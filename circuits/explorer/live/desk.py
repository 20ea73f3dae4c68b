"""One window: the prompts it looks at, and what it asks for, as jobs of the worker."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from circuits.errors import CircuitsError
from circuits.explorer.contents import Json, checkpoint_contents
from circuits.explorer.live import messages
from circuits.explorer.live.jobs import BACKGROUND, CLICK, WORK, Job, Steps, Told, Worker
from circuits.explorer.live.open_pairs import OpenPairs
from circuits.explorer.live.pair import LivePair, circuit_of
from circuits.explorer.live.scoring import scored
from circuits.explorer.live.task_runs import TaskRuns
from circuits.explorer.live.typed import SOURCE, Typed, texts_of, tokens_of, typed_pairs
from circuits.explorer.page import page
from circuits.models import HookedModel
from circuits.options.patching import PatchSpec
from circuits.runtime.heap import release_freed
from tasks.pairs import PairSet

_MESSAGE_S = 0.08
"""Between two messages of a sweep, at least."""


@dataclass
class Backend:
    """What all windows share.

    contents: what the page is given. worker: its queue. model: None where there is none. task: its
    task's pairs, if there are some. load: how the model is loaded in Python, for scripts.
    """

    contents: Json
    worker: Worker
    model: HookedModel | None = None
    task: TaskRuns | None = None
    load: str = ""

    @property
    def loaded(self) -> HookedModel:
        """The model.

        Raises:
            CircuitsError: where there is none.
        """
        if self.model is None:
            raise CircuitsError("there is no model here; give one with --model")
        return self.model

    @cached_property
    def open_pairs(self) -> OpenPairs:
        """The pairs that windows look at.

        Raises:
            CircuitsError: where there is no model.
        """
        return OpenPairs(self.loaded)

    def about(self) -> Json:
        """What the page is given, and what it can ask for."""
        live: Json | None = None
        if self.model is not None:
            live = {
                "model": Path(self.model.name).name,
                "load": self.load,
                "patches": self.model.layout.n_encoder_layers == 0,
                "layers": self.model.layout.n_layers,
                "task": None
                if self.task is None
                else {
                    "name": self.task.pairs.task,
                    "n": len(self.task.pairs),
                    "metric": self.task.judge.name,
                },
            }
        return {**self.contents, "live": live}


@dataclass(frozen=True, eq=False)
class _Taken:
    """A pair that a window looks at, and the id of the request that took it."""

    request_id: int
    pair: LivePair


@dataclass(eq=False)
class Desk:
    """A window's requests. told: (id, what, content), from the worker's thread."""

    backend: Backend
    told: Callable[[int, str, Json], None]
    _taken: _Taken | None = None
    _jobs: dict[int, Job] = field(default_factory=dict)
    _preparing: Job | None = None

    def ask(self, request: messages.Asked) -> None:
        """Put a request into the queue, or cancel one.

        Raises:
            CircuitsError: where too much of this window is waiting, and for what is asked about a
                pair that the window has left.
        """
        if isinstance(request, messages.Cancel):
            job = self._jobs.pop(request.of, None)
            if job is not None:
                self.backend.worker.cancel(job)
                self.told(request.of, "cancelled", {})
            return
        steps, urgency = self._steps(request)
        job = self._jobs[request.id] = Job(self, urgency, steps, self._teller(request.id))
        try:
            self.backend.worker.give(job)
        except CircuitsError:
            del self._jobs[request.id]
            raise
        if isinstance(request, messages.Prompts | messages.TaskPrompts):
            if self._preparing is not None:  # of a pair that is left
                self.backend.worker.cancel(self._preparing)
            self._preparing = Job(self, WORK, self._prepare(), self._prepared)
            with suppress(CircuitsError):  # where much is waiting, clicks make what they need
                self.backend.worker.give(self._preparing)

    @property
    def pair(self) -> LivePair | None:
        """What the window looks at."""
        return None if self._taken is None else self._taken.pair

    def leave(self) -> None:
        """The window is closed: stop its work."""
        self.backend.worker.leave(self)
        self._preparing = None

    def _prepared(self, what: str, _: Json) -> None:
        if what != "step":
            self._preparing = None

    def _teller(self, number: int) -> Told:
        def told(what: str, content: Json) -> None:
            if what != "step":
                self._jobs.pop(number, None)
            if what != "step" or content:
                self.told(number, what, content)

        return told

    def _steps(self, request: messages.Asked) -> tuple[Steps, int]:
        match request:
            case messages.Prompts():
                typed = Typed(request.clean, request.corrupted, request.correct, request.incorrect)
                return self._prompts(typed, request.id), CLICK
            case messages.TaskPrompts():
                return self._task_prompts(request), CLICK
            case messages.PatchSite():
                return self._site(request, self._named(request)), CLICK
            case messages.PatchEdge():
                return self._edge(request, self._named(request)), CLICK
            case messages.AboutNode():
                return self._node(request, self._named(request)), CLICK
            case messages.RunCircuit():
                return self._circuit(request, self._named(request)), WORK
            case messages.Sweep():
                return self._sweep(request, self._named(request)), WORK
            case messages.Score():
                return self._score(request, self._named(request)), BACKGROUND
            case messages.Page():
                return self._page(request), WORK
        raise AssertionError(request)

    def _named(self, request: messages.AskedOfPair) -> LivePair | None:
        """The pair that a request names: it is answered about that one, whatever is taken until it
        has its turn.

        Raises:
            CircuitsError: where the window is at another one.
        """
        taken = self._taken
        if request.pair_id is None:
            return None
        if taken is None or taken.request_id != request.pair_id:
            raise CircuitsError("this window has taken another pair since; ask again")
        return taken.pair

    @contextmanager
    def _in_use(self, named: LivePair | None) -> Iterator[LivePair]:
        """The pair that a request names, or the window's; it keeps its runs meanwhile."""
        pair = named or self.pair
        if pair is None:
            raise CircuitsError("type a clean and a corrupted prompt first, and run them")
        with self.backend.open_pairs.in_use(pair):
            yield pair

    def _prompts(self, typed: Typed, request_id: int) -> Steps:
        model = self.backend.loaded
        yield {
            name: [asdict(token) for token in texts_of(model, tokens_of(model, text))]
            for name, text in (("clean", typed.clean), ("corrupted", typed.corrupted))
        }
        pairs = typed_pairs(model, typed.clean, typed.corrupted, typed.correct, typed.incorrect)
        yield {}
        return self._took(pairs, request_id)

    def _task_prompts(self, request: messages.TaskPrompts) -> Steps:
        task = self.backend.task
        if task is None:
            raise CircuitsError("there is no task here; give one with --task")
        yield {}
        pair_index = request.index % len(task.pairs)
        taken = self._took(task.pairs[pair_index : pair_index + 1], request.id)
        return {**taken, "index": pair_index}

    def _took(self, pairs: PairSet, request_id: int) -> Json:
        """The pair is this window's from here on; what both runs say.

        Of two that were asked for at once, the one asked for last stays, whichever is ready first.
        """
        if self._taken is not None and request_id < self._taken.request_id:
            raise CircuitsError("other prompts were asked for after these, and are taken")
        model, open_pairs = self.backend.loaded, self.backend.open_pairs
        with open_pairs.in_use(open_pairs.of(pairs)) as pair:
            top_tokens = {"clean": pair.tops(pair.clean), "corrupted": pair.tops(pair.corrupted)}
            ends = pair.ends
        self._taken = _Taken(request_id, pair)
        release_freed()  # a pair that goes leaves holes on the heap, more of them with every pair
        (prompt_pair,) = pairs.pairs
        sides = {"clean": prompt_pair.clean, "corrupted": prompt_pair.corrupted}
        answers = {"right": prompt_pair.answer, "wrong": prompt_pair.wrong}
        return {
            "source": None if prompt_pair.source == SOURCE else prompt_pair.source,
            "metric": pair.judge.name,
            "ends": list(ends),
            "pair_id": request_id,
            "tops": {
                side: [asdict(top) for top in side_tops] for side, side_tops in top_tokens.items()
            },
            **{
                side: [
                    asdict(token)
                    for token in texts_of(model, (*tokens, *prompt_pair.teacher_forced))
                ]
                for side, tokens in sides.items()
            },
            **{
                side: [
                    [asdict(token) for token in texts_of(model, answer_tokens)]
                    for answer_tokens in sets
                ]
                for side, sets in answers.items()
            },
        }

    def _prepare(self) -> Steps:
        if self.pair is not None:
            with self.backend.open_pairs.in_use(self.pair) as pair:
                for _ in pair.prepare():
                    if pair is not self.pair:  # the window has taken another one
                        break
                    yield {}
        return {}

    def _site(self, request: messages.PatchSite, named: LivePair | None) -> Steps:
        yield {}
        with self._in_use(named) as pair:
            return asdict(pair.site(_spec(request)))

    def _edge(self, request: messages.PatchEdge, named: LivePair | None) -> Steps:
        yield {}
        with self._in_use(named) as pair:
            return asdict(pair.edge(request.edge, request.direction))

    def _node(self, request: messages.AboutNode, named: LivePair | None) -> Steps:
        yield {}
        with self._in_use(named) as pair:
            return asdict(pair.node(request.node))

    def _sweep(self, request: messages.Sweep, named: LivePair | None) -> Steps:
        with self._in_use(named) as pair:
            return (yield from self._swept(pair, request))

    def _swept(self, pair: LivePair, request: messages.Sweep) -> Steps:
        spec = PatchSpec(
            site=request.site, direction=request.direction, sweep=("layer", request.by)
        )
        sweep = pair.sweep(spec)
        clean, corrupted = pair.ends
        if pair.recovery(clean) is None:
            raise CircuitsError(
                f"{pair.judge.name} is {clean:.6g} on both prompts, so no patch recovers a share "
                "of the gap; change the prompts or the answers"
            )

        def grid() -> Json:
            axis = 2 if request.by == "position" else 1
            values = sweep.values[0, 0].select(3 - axis, 0)
            known_mask = sweep.known.select(3 - axis, 0)
            shares = (values - corrupted) / (clean - corrupted)
            return {
                "recovery": [
                    [round(share, 6) if is_known and not math.isnan(share) else None
                     for share, is_known in zip(*rows, strict=True)]
                    for rows in zip(shares.tolist(), known_mask.tolist(), strict=True)
                ]
            }  # fmt: skip

        yield grid()
        last = time.monotonic()
        for _ in sweep.run():
            due = time.monotonic() - last >= _MESSAGE_S
            yield grid() if due else {}
            last = time.monotonic() if due else last
        return grid()

    def _circuit(self, request: messages.RunCircuit, named: LivePair | None) -> Steps:
        circuit = circuit_of(self.backend.loaded, request.edges)
        answer: Json = {"size": len(circuit)}
        yield {}
        if named or self.pair:
            with self._in_use(named) as pair:
                answer["pair"] = {"metric": pair.judge.name, **asdict(pair.circuit(circuit.mask))}
            yield answer
        if (task := self.backend.task) is not None:
            for n_done, f in task.faithfulness(circuit):
                if f is None:
                    yield {"done": n_done, "of": len(task.pairs)}
                else:
                    interval = {"low": _number(f.low), "high": _number(f.high)}
                    answer["task"] = {
                        "metric": task.judge.name, "n": f.n, "f": f.value, **interval
                    }  # fmt: skip
        return answer

    def _score(self, request: messages.Score, named: LivePair | None) -> Steps:
        model = self.backend.loaded
        if request.of == "pair":
            with self._in_use(named) as pair:
                name, inputs = f"{pair.pairs.task} pair", (pair.pairs, [pair.batch], pair.judge)
        elif (task := self.backend.task) is not None:
            name, inputs = f"{task.pairs.task}, here", (task.pairs, task.batches, task.judge)
        else:
            raise CircuitsError("there is no task here; give one with --task")
        yield {"done": 0.0}
        work = scored(model, *inputs, request.steps)
        while True:
            try:
                yield {"done": next(work)}
            except StopIteration as ended:
                return {"checkpoint": checkpoint_contents(name, ended.value)}

    def _page(self, request: messages.Page) -> Steps:
        yield {}
        contents = self.backend.contents
        checkpoints = contents["checkpoints"]
        assert isinstance(checkpoints, list)
        return {
            "page": page({**contents, "checkpoints": [*checkpoints, *request.added]}, request.state)
        }


def _spec(request: messages.PatchSite) -> PatchSpec:
    return PatchSpec(
        site=request.site,
        direction=request.direction,
        layers=(request.layer,),
        positions=None if request.position is None else (request.position,),
        heads=None if request.unit is None else (request.unit,),
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
