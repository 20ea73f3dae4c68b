"""Learning a mask: which edges, nodes or neurons may go while the model stays as it was.

Edge Pruning (Bhaskar, Wettig, Friedman & Chen 2024, arXiv:2406.16778), begun from scores as in a
sequential ensemble (Mondorf et al. 2025, arXiv:2510.06811).

1. Every edge (node, neuron) has a hard-concrete gate, whose logit begins where its score puts it.
2. In each step all gates are drawn once, some pairs run with them, and the distance from the whole
   model is differentiated: forward and backward pass cost about twice the model's own, since every
   reader has an input of its own.
3. Adam moves the logits along that gradient and the size's penalty; its multipliers move the other
   way. The size allowed falls from `start` times the one asked for down to it, and the draws' noise
   to nothing; from then on the gates are 0 and 1, those of the circuit so far.
4. The gates most likely to be open make the circuit.

What is left out gives what it gave on the corrupted prompt, or constants: means, or ones that are
learned beside the gates (optimal ablation, Li & Janson 2024, arXiv:2409.09951).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from circuits.errors import CircuitsError
from circuits.graph import AnyScores, EdgeScores, NodeScores, Provenance
from circuits.graph.levels import empty_like, select_size
from circuits.intervention import MeanActivations
from circuits.masks.adam import Adam
from circuits.masks.gate_gradient import GateGradient
from circuits.masks.hard_concrete import p_open, sampled, settled
from circuits.masks.result import LearnedMask, MaskRecord, WarmStart
from circuits.masks.size_constraint import noise, penalty, target
from circuits.masks.warm_start import LIMIT, first_logits, flat, places_of
from circuits.metrics import metric_for
from circuits.models import HookedModel
from circuits.options.masks import MaskConfig
from circuits.options.run import RunOptions
from circuits.provenance import describe_model, describe_pairs, versions
from circuits.runtime.resume import PartialResults, digest
from circuits.runtime.seeds import mixed_seed
from tasks.pairs import PairSet

METHOD = "learned-mask"
_NOISE, _ORDER = 0, 1
"""What is drawn: gates, or the order of an epoch."""


Gates = Float[Tensor, " gate"]


def learn_mask(
    model: HookedModel,
    scores: AnyScores,
    pairs: PairSet,
    config: MaskConfig,
    *,
    metric: str | None = None,
    options: RunOptions | None = None,
    resume: PartialResults | None = None,
) -> LearnedMask:
    """Learn which edges, nodes or neurons a circuit of a size needs.

    Args:
        model: the model; no weight of it changes.
        scores: of what the mask is of, and where it begins.
        pairs: what is learned on; those that the scores were made from will do.
        config: the size, and how it is learned.
        metric: that the objective `metric` is about; None takes the pairs' own.
        options: pairs at a time within a step, seed, and progress bar; learning runs in this
            process, with its passes whole.
        resume: keeps how far it came, and goes on from it; the result is bit-identical.

    Returns:
        Scores, the circuit, and the course of learning.

    Raises:
        CircuitsError: for scores of another model, a size that it does not have, scores that say
            nothing, workers, layers to be run again, edges of a model whose norms rescale the
            stream, and learned or mean constants there.
    """
    options = options or RunOptions()
    if options.engine is not None or options.recompute:
        raise CircuitsError("a mask is learned in this process, without running layers again")
    if scores.layout != model.layout:
        raise CircuitsError(
            f"scores of a model with {scores.layout.summary} are no start for one with "
            f"{model.layout.summary}"
        )
    model.validate(pairs)
    learning = _Learning(model, scores, pairs, config, metric, options)
    learning.run(resume or PartialResults(), progress=options.progress)
    return learning.result()


class _Learning:
    """Learning under way. logits: one a gate. losses, sizes, wanted: one a step."""

    def __init__(
        self,
        model: HookedModel,
        scores: AnyScores,
        pairs: PairSet,
        config: MaskConfig,
        metric: str | None,
        options: RunOptions,
    ) -> None:
        self.model, self.scores, self.pairs, self.config = model, scores, pairs, config
        self.seed, self.flat_indices = options.seed, places_of(scores)
        judge = metric_for(pairs, metric)
        self.constants = self._first_constants()
        self.gradient = GateGradient(
            model, pairs, scores, config, judge, self.constants, options.batch_size
        )
        self.logits = first_logits(scores, config)
        self.multipliers = torch.zeros(2)
        self.steps = config.epochs * len(self.gradient.parts)
        course = (torch.zeros(self.steps, dtype=torch.float64) for _ in range(3))
        self.losses, self.sizes, self.wanted = course
        self.provenance = self._provenance(judge.name, options)

    def run(self, resume: PartialResults, *, progress: bool) -> None:
        """Take all steps that are not taken yet."""
        resume.restore(self.steps, self._identity(), self._state())
        first = int(resume.done.sum())
        with tqdm(
            desc="learning a mask", total=self.steps, initial=first, disable=not progress
        ) as bar:
            for step, part in self._order(first):
                loss, gradient = self._differentiated(step, part)
                with resume.taking(torch.tensor([step])):
                    self._update(step, loss, gradient)
                bar.update()

    def result(self) -> LearnedMask:
        """What the gates say now."""
        each, config = len(self.gradient.parts), self.config
        values = torch.zeros_like(flat(self.scores))
        values[self.flat_indices] = p_open(self.logits)
        provenance = self.provenance
        scores: AnyScores
        if isinstance(self.scores, NodeScores):
            layout, widths = self.scores.layout, self.scores.widths
            scores = NodeScores(values, layout, widths, METHOD, provenance)
        else:
            matrix = values.view(self.scores.matrix.shape)
            scores = EdgeScores(matrix, self.scores.layout, METHOD, provenance)
        by_epoch = (len(self.losses) // each, each)
        learned = None if config.ablation != "optimal" else self.constants
        return LearnedMask(
            scores,
            select_size(scores, config.size),
            None if learned is None else learned.detached(),
            MaskRecord(
                level=empty_like(scores).level,
                start=WarmStart(method=self.scores.method, data=self.scores.provenance.data),
                losses=tuple(self.losses.view(by_epoch).mean(dim=1).tolist()),
                sizes=tuple(self.sizes.view(by_epoch)[:, -1].tolist()),
                wanted=tuple(self.wanted.view(by_epoch)[:, -1].tolist()),
                config=config,
                provenance=provenance,
            ),
        )

    def _differentiated(self, step: int, part: int) -> tuple[float, Gates]:
        """The loss with one draw of the gates, and its gradient there."""
        gates = self._drawn(self.logits, step)
        everything = torch.zeros_like(flat(self.scores))
        everything[self.flat_indices] = gates
        shape = (-1,) if isinstance(self.scores, NodeScores) else self.scores.layout.shape
        loss, gradient = self.gradient.of(part, everything.view(shape))
        return loss, gradient.flatten()[self.flat_indices]

    def _update(self, step: int, loss: float, gradient: Gates) -> None:
        """Move the logits and constants down, and the multipliers up."""
        logits = self.logits.clone().requires_grad_()
        gates = self._drawn(logits, step)
        wanted = target(self.config, step / self.steps)
        n_open, multipliers = p_open(logits).sum(), self.multipliers.clone().requires_grad_()
        ((gates * gradient).sum() + penalty(n_open, wanted, multipliers)).backward()
        assert logits.grad is not None and multipliers.grad is not None
        self._of_logits.descend(logits.grad, step + 1)
        self.logits.clamp_(-LIMIT, LIMIT)
        self._of_multipliers.descend(-multipliers.grad, step + 1)
        for optimizer in self._of_constants:
            constant_gradient, optimizer.values.grad = optimizer.values.grad, None
            with torch.no_grad():
                optimizer.descend(
                    torch.zeros_like(optimizer.values)
                    if constant_gradient is None
                    else constant_gradient,
                    step + 1,
                )
        self.losses[step], self.sizes[step] = loss, float(n_open.detach())
        self.wanted[step] = wanted

    def _drawn(self, logits: Gates, step: int) -> Gates:
        left = noise(self.config, step / self.steps)
        if not left:
            return settled(logits, self.config.size)
        return sampled(logits, _drawing(self.seed, _NOISE, step), left)

    def _order(self, first: int) -> Iterator[tuple[int, int]]:
        """Steps from `first` on, each with its part; every epoch has an order of its own."""
        each = len(self.gradient.parts)
        for step in range(first, self.steps):
            epoch, index = divmod(step, each)
            order = torch.randperm(each, generator=_drawing(self.seed, _ORDER, epoch))
            yield step, int(order[index])

    @cached_property
    def _of_logits(self) -> Adam:
        return Adam(self.logits, self.config.learning_rate)

    @cached_property
    def _of_multipliers(self) -> Adam:
        return Adam(self.multipliers, self.config.size_rate)

    @cached_property
    def _of_constants(self) -> list[Adam]:
        if self.constants is None or self.config.ablation != "optimal":
            return []
        size = {
            constant: float(constant.detach().square().mean().sqrt())
            for constant in self.constants.tensors
        }
        return [Adam(constant, self.config.constant_rate * each) for constant, each in size.items()]

    def _first_constants(self) -> MeanActivations | None:
        if self.config.ablation == "corrupted":
            return None
        neurons = empty_like(self.scores).level == "neuron"
        means = MeanActivations.of(self.model, self.pairs, "mean", neurons=neurons)
        return means if self.config.ablation == "mean" else means.learnable()

    def _state(self) -> dict[str, Tensor]:
        """All that a step changes."""
        state = {
            "logits": self.logits,
            "multipliers": self.multipliers,
            "losses": self.losses,
            "sizes": self.sizes,
            "wanted": self.wanted,
        }
        each = (self._of_logits, self._of_multipliers, *self._of_constants)
        for index, optimizer in enumerate(each):
            for moment, tensor in enumerate(optimizer.state):
                state[f"moment {moment} of {index}"] = tensor
            if index > 1:
                state[f"constant {index}"] = optimizer.values.detach()
        return state

    def _identity(self) -> dict[str, object]:
        return {
            "settings": asdict(self.config),
            "metric": self.provenance.metric,
            "seed": self.seed,
            "model": [self.model.fingerprint, str(self.model.hf.dtype)],
            "pairs": self.pairs.fingerprint,
            "scores": digest(flat(self.scores)),
            "batch size": self.provenance.batch_size,
        }

    def _provenance(self, metric: str, options: RunOptions) -> Provenance:
        config, scored_on = asdict(self.config), self.scores.provenance.pairs or ()
        return Provenance(
            settings={**config, "start_from": self.scores.method},
            metric=metric if self.config.objective == "metric" else "kl-divergence",
            batch_size=options.batch_size,
            seed=options.seed,
            data=describe_pairs(self.pairs),
            # A split is unseen only if neither mask nor scores have seen it.
            pairs=tuple(dict.fromkeys([*self.pairs.fingerprints, *scored_on])),
            model=describe_model(self.model),
            versions=versions(),
            task=self.scores.provenance.task,
        )


def _drawing(*numbers: int) -> torch.Generator:
    """Random numbers of their own for each combination."""
    return torch.Generator().manual_seed(mixed_seed(*numbers))
