"""Ranks of an adapter by the importance of its maps, at a given number of parameters."""

from __future__ import annotations

from circuits.errors import CircuitsError
from circuits.importance import MapImportance
from circuits.tuning.projections import LinearMap, Projections


def ranks_by_importance(
    projections: Projections, importance: MapImportance, parameters: int
) -> dict[str, int]:
    """Ranks whose adapters have parameters in proportion to the importance of their maps.

    A map has the importance of its roles in its layer; where several maps of a layer share a role,
    as an MLP's gate does with its other input, they share its importance by their size. Ranks are
    rounded down, then raised by one in the order of what rounding took, as long as the whole fits;
    none exceeds what the map itself has. Maps that come out at rank 0 get no adapter.

    Args:
        projections: the maps that may get an adapter.
        importance: of the maps.
        parameters: how many there should be at most; where not even rank 1 on one map fits, the
            most important one gets it all the same.

    Returns:
        The rank of each map that gets an adapter, by its name in the model.

    Raises:
        CircuitsError: where none of the maps has any importance, or the importance is of a model
            with another number of layers.
    """
    if importance.n_layers != projections.n_layers:
        raise CircuitsError(
            f"{importance.criterion}: importance of {importance.n_layers} layers for a model of "
            f"{projections.n_layers}"
        )
    maps, shares = projections.all, _shares(projections, importance)
    if not any(shares.values()):
        raise CircuitsError(
            f"{importance.criterion}: no map that may get an adapter has any importance"
        )
    ideal_ranks = _wanted(maps, shares, parameters)
    ranks = {name: int(rank) for name, rank in ideal_ranks.items()}
    left = parameters - projections.count(ranks)
    order = sorted(ideal_ranks, key=lambda name: ranks[name] - ideal_ranks[name])
    for name in reversed(order):  # of DoRA, whose magnitudes are not in proportion
        if left >= 0:
            break
        if ranks[name]:
            left += _step(maps[name], ranks[name] - 1, dora=projections.dora)
            ranks[name] -= 1
    for name in order:
        cost = _step(maps[name], ranks[name], dora=projections.dora)
        if cost <= left and ranks[name] < _most(maps[name]):
            ranks[name], left = ranks[name] + 1, left - cost
    if not any(ranks.values()):
        ranks[max(shares, key=lambda name: shares[name])] = 1
    return {name: rank for name, rank in ranks.items() if rank}


def _shares(projections: Projections, importance: MapImportance) -> dict[str, float]:
    """The importance of each map, by its name in the model."""
    shares = {}
    for layer, maps in enumerate(projections.maps):
        for name, linear_map in maps.items():
            total = 0.0
            for role in linear_map.roles:
                size = sum(
                    other_map.parameters(1)
                    for other_map in maps.values()
                    if role in other_map.roles
                )
                total += importance.of(layer, role) * linear_map.parameters(1) / size
            shares[f"{projections.stack}.{layer}.{name}"] = total
    return shares


def _wanted(
    maps: dict[str, LinearMap], shares: dict[str, float], parameters: int
) -> dict[str, float]:
    """Ranks before rounding: what a map cannot take goes to the others."""
    ideal_ranks: dict[str, float] = {}
    open_ = {name: share for name, share in shares.items() if share > 0}
    left = float(parameters)
    while open_:
        total = sum(open_.values())
        full = [
            name
            for name, share in open_.items()
            if left * share / total >= maps[name].parameters(1) * _most(maps[name])
        ]
        for name in full or list(open_):
            share = open_[name]
            ideal_ranks[name] = (
                float(_most(maps[name]))
                if full
                else left * share / total / maps[name].parameters(1)
            )
        if not full:
            break
        for name in full:
            del open_[name]
            left -= maps[name].parameters(1) * _most(maps[name])
    return ideal_ranks


def _step(linear_map: LinearMap, rank: int, *, dora: bool) -> int:
    """What one more of rank costs."""
    return linear_map.parameters(rank + 1, dora=dora) - linear_map.parameters(rank, dora=dora)


def _most(linear_map: LinearMap) -> int:
    return min(linear_map.inputs, linear_map.outputs)
