"""Run a model on a circuit.

With a the sources' outputs in this run and a' those of the corrupted run, reader v is given

    x'_v + sum over kept edges u -> v of (a_u - a'_u),

with x'_v the stream that v reads in the corrupted run. Only the q/k/v projections' outputs and the
inputs of the MLPs' and the final norm are replaced; the model's own attention and MLP code does the
rest. Readers with no kept edge take the corrupted run's value, readers with all of theirs are left
alone, and only the sources that some other reader uses are widened: a small circuit costs little
more than a forward pass. No edge kept gives the corrupted logits, all kept the clean ones.
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from circuits.errors import CircuitsError
from circuits.graph import Circuit
from circuits.models import HookedModel, SourceStates
from circuits.models.hooks import Hooks
from circuits.models.view import Norm, Projection
from tasks.pairs import PairBatch

Logits = Float[Tensor, "read vocab"]


class Executor:
    """Runs circuits on one batch; they share its clean and corrupted runs.

    clean, corrupted: float32 logits at the batch's reads.
    """

    def __init__(self, model: HookedModel, batch: PairBatch) -> None:
        """Run the batch clean and corrupted once."""
        self.model, self.batch = model, batch
        self._reference = SourceStates(model.view)
        self._values: dict[nn.Module, Tensor] = {}
        hooks = Hooks()
        self._reference.record(hooks)
        for layer in model.view.layers:
            hooks.before(layer.attention_norm.module, partial(self._keep, layer.block))
            for module in layer.modules:
                hooks.after(module, partial(self._keep, module))
            hooks.before(layer.mlp_norm.module, partial(self._keep, layer.mlp_norm.module))
        hooks.before(model.view.final_norm, partial(self._keep, model.view.final_norm))
        with torch.no_grad():
            self.corrupted: Logits = model.logits(batch.corrupted, batch, hooks)
            self.clean: Logits = model.logits(batch.clean, batch)

    def logits(self, circuit: Circuit) -> Logits:
        """Logits at the batch's reads with only the circuit's edges left."""
        if circuit.layout != self.model.layout:
            raise CircuitsError(
                f"a circuit of a model with {circuit.layout.summary} cannot run on one with "
                f"{self.model.layout.summary}"
            )
        run = _Run(self.model, self._reference, self._values, circuit.mask)
        hooks = Hooks()
        run.attach(hooks)
        with torch.no_grad():
            return self.model.logits(self.batch.clean, self.batch, hooks)

    def _keep(self, key: nn.Module, value: Tensor) -> None:
        self._values[key] = value.detach()


class _Run:
    """One forward pass on a circuit."""

    def __init__(
        self,
        model: HookedModel,
        reference: SourceStates,
        values: dict[nn.Module, Tensor],
        keep: Bool[Tensor, "source reader"],
    ) -> None:
        self.view, self.keep = model.view, keep
        self.reference, self.values = reference, values
        self.live = SourceStates(model.view)
        kept = keep.sum(dim=0)
        visible = model.layout.mask.sum(dim=0)
        # 0: take the corrupted value; 2: leave alone; 1: compute.
        self.state = torch.where(kept == 0, 0, torch.where(kept == visible, 2, 1)).tolist()
        self.used = keep[:, torch.tensor(self.state) == 1].any(dim=1).nonzero().flatten().tolist()
        self.deltas: list[Float[Tensor, "batch pos d_model"]] = []

    def attach(self, hooks: Hooks) -> None:
        """Record the live sources and replace the readers."""
        layout = self.view.layout
        self.live.record(hooks)
        for index, layer in enumerate(self.view.layers):
            for module, projections in layer.modules.items():
                columns = [layout.port_columns(index, p.port) for p in projections]
                if any(
                    self.state[c] != 2 for part in columns for c in range(layout.shape[1])[part]
                ):
                    hooks.after(
                        module,
                        partial(
                            self._projected,
                            list(zip(projections, columns, strict=True)),
                            self.values[layer.block],
                            self.values[module],
                            layer.attention_norm,
                        ),
                    )
            self._replace_input(hooks, layer.mlp_norm.module, layout.mlp_column(index))
        self._replace_input(hooks, self.view.final_norm, layout.logits_column)

    def _replace_input(self, hooks: Hooks, norm: nn.Module, column: int) -> None:
        if self.state[column] == 2:
            return

        def edit(x: Tensor) -> Tensor:
            return self._inputs([column], self.values[norm])[0].reshape(x.shape).to(x.dtype)

        hooks.before(norm, edit)

    def _projected(
        self,
        parts: list[tuple[Projection, slice]],
        stream: Float[Tensor, "batch pos d_model"],
        corrupted: Float[Tensor, "batch pos feature"],
        norm: Norm,
        output: Float[Tensor, "batch pos feature"],
    ) -> Float[Tensor, "batch pos feature"]:
        """A projection's output with each head's reader given its own input."""
        new = corrupted.clone()
        for projection, columns in parts:
            states = self.state[columns]
            shape = (*output.shape[:2], projection.n_heads, -1)
            live = output[..., projection.features].view(shape)
            mine = new[..., projection.features].view(shape)
            alone = [head for head, state in enumerate(states) if state == 2]
            mine[:, :, alone] = live[:, :, alone]
            heads = [head for head, state in enumerate(states) if state == 1]
            if not heads:
                continue
            inputs = self._inputs([columns.start + head for head in heads], stream)
            normed = norm.module(inputs)
            value = torch.einsum("hbpd,hdk->bphk", normed, projection.weight[heads])
            if projection.bias is not None:
                value = value + projection.bias[heads]
            mine[:, :, heads] = value
        return new

    def _inputs(
        self, columns: list[int], stream: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "reader batch pos d_model"]:
        """What the readers at these columns are given."""
        self._extend(self.view.layout.visible(columns[0]))
        rows = self.used[: len(self.deltas)]
        inputs = stream.expand(len(columns), *stream.shape)
        if not rows:
            return inputs
        keep = self.keep[rows][:, columns].to(stream)
        deltas = torch.stack(self.deltas)
        return inputs + torch.einsum("rc,rbpd->cbpd", keep, deltas)

    def _extend(self, visible: int) -> None:
        """Widen the used sources that have been computed by now."""
        while len(self.deltas) < len(self.used) and self.used[len(self.deltas)] < visible:
            row = self.used[len(self.deltas)]
            self.deltas.append(self.live.output(row) - self.reference.output(row))
