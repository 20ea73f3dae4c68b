"""Gates on edges, nodes or neurons: a run with them, and the gradient of what is made of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.graph import Units
from circuits.intervention.ablation import AblatedRun, MeanActivations
from circuits.intervention.executor import CircuitRunner, Logits
from circuits.intervention.gated_edges import GatedEdges
from circuits.intervention.node_run import NodeRun
from circuits.models.hooks import Hooks

Values = Float[Tensor, " batch"]


class GatedRunner(CircuitRunner):
    """Runs one batch with gates from 0 to 1 in the place of a circuit's choices.

    Gates of 0 and 1 alone give what `logits` gives of that circuit.
    """

    def gradient(
        self,
        gates: Float[Tensor, "*gate"],
        loss: Callable[[Logits], Values],
        *,
        units: Units | None = None,
        constants: MeanActivations | None = None,
    ) -> tuple[Values, Float[Tensor, "*gate"]]:
        """One forward and one backward pass.

        Args:
            gates: of every edge, (source, reader); or of every unit, of which those of what enters
                the model are kept whatever their gates say.
            loss: of the logits at the batch's answer positions; a number for each example.
            units: that the gates are of; None for edges.
            constants: what stands in for sources in place of the runner's own, which are constants
                too; tensors among them that ask for a gradient find it in `grad`, added up.

        Returns:
            The loss, and the gradient of its sum over the examples at the gates, in float32.

        Raises:
            CircuitsError: for edges where norms rescale the stream, and for neurons where the
                constants are of whole MLPs.
        """
        reference = self._reference
        if constants is not None:
            states = constants.states(self.model, self._rest)
            reference = AblatedRun(states, reference.inputs, reference.values)
        hooks = Hooks()
        if units is None:
            run = GatedEdges(self.model, reference, gates, by_corruption=self._by_corruption)
            run.attach(hooks)
            return self._backward(hooks, loss), run.of_edges()
        leaf = gates.detach().to(self.model.device).requires_grad_()
        nodes = NodeRun(self.model, reference, units, leaf)
        if nodes.needs_neurons and not reference.states.hidden:
            self._require_neurons()
        nodes.attach(hooks)
        values = self._backward(hooks, loss)
        assert leaf.grad is not None
        return values, leaf.grad.float()

    def _backward(self, hooks: Hooks, loss: Callable[[Logits], Values]) -> Values:
        with torch.enable_grad():
            logits = self.model.logits(self._rest.clean, self._rest, hooks, self._prefix)
            values = loss(logits)
            values.sum().backward()
        return values.detach()
