"""All attribution methods: one entry each.

A method is one class in a file of its own that says its name, what it costs and, in the cost model,
what it is in a line. The command line, the planner and recipes know it from its entry here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from circuits.attribution.clean_corrupted import CleanCorrupted
from circuits.attribution.eap import EAP
from circuits.attribution.eap_ig import EAPIG
from circuits.attribution.eap_ig_activations import EAPIGActivations
from circuits.attribution.exact import Exact
from circuits.attribution.gim import GIM
from circuits.attribution.information_flow import InformationFlow
from circuits.attribution.method import Method, PathMethod
from circuits.attribution.random import Random
from circuits.attribution.relp import RelP
from circuits.errors import CircuitsError
from circuits.planning import JOBS, CostModel

# Any: a class that is both a dataclass and a `Method`, which Python has no type for.
_MethodClass = type[Any]
_PARTS = ("name", "cost", "validate", "scores")


def registry(methods: Iterable[_MethodClass]) -> dict[str, _MethodClass]:
    """Methods by name.

    Raises:
        TypeError: where one lacks a part that others rely on, such as its cost model, or bears a
            name that is taken.
    """
    by_name: dict[str, _MethodClass] = {}
    for method_class in methods:
        if missing := [part for part in _PARTS if not hasattr(method_class, part)]:
            raise TypeError(
                f"{method_class.__name__} is no attribution method: it lacks {missing[0]}"
            )
        if method_class.cost.name != method_class.name or method_class.name in {*by_name, *JOBS}:
            raise TypeError(
                f"{method_class.__name__}: its name {method_class.name!r} is taken, "
                "or not its cost's"
            )
        by_name[method_class.name] = method_class
    return by_name


METHODS = registry(
    (EAPIG, EAPIGActivations, EAP, CleanCorrupted, RelP, GIM, Exact, InformationFlow, Random)
)


def method(name: str, **settings: object) -> Method:
    """An attribution method by its name.

    Args:
        name: a key of `METHODS`.
        settings: hyper-parameters of the method; None stands for its default.

    Returns:
        The method, with these settings.

    Raises:
        CircuitsError: for an unknown name or setting; it names those that are known.
    """
    if name not in METHODS:
        raise CircuitsError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    arguments = {key: value for key, value in settings.items() if value is not None}
    field_names = [field.name for field in fields(METHODS[name])]
    if unknown := sorted(set(arguments) - set(field_names)):
        takes = ", ".join(field_names) or "no settings"
        raise CircuitsError(f"{name} does not take {', '.join(unknown)}; it takes {takes}")
    instance: Method = METHODS[name](**arguments)
    return instance


def resolve(method_or_name: str | Method, settings: Mapping[str, object]) -> Method:
    """A method from its name and hyper-parameters, or from itself."""
    if isinstance(method_or_name, str):
        return method(method_or_name, **settings)
    if settings:
        raise CircuitsError("hyper-parameters belong in the method object that was given")
    return method_or_name


def cost_of(name: str) -> CostModel:
    """What a method, or another job that can be planned (`planning.JOBS`), costs.

    Args:
        name: of the method or job.

    Returns:
        Its cost model.

    Raises:
        CircuitsError: for an unknown name; it names those that are known.
    """
    costs = {**{key: method_class.cost for key, method_class in METHODS.items()}, **JOBS}
    if name not in costs:
        raise CircuitsError(f"no plan for {name!r}; known: {', '.join(costs)}")
    cost: CostModel = costs[name]
    return cost


def described(*, jobs: bool = False) -> str:
    """Each method with what it is, for help texts; jobs: and what else can be planned."""
    costs = [method_class.cost for method_class in METHODS.values()] + (
        list(JOBS.values()) if jobs else []
    )
    return "; ".join(f"{cost.name} ({cost.description})" for cost in costs)


def node_methods() -> tuple[str, ...]:
    """Names of the methods that score nodes and neurons too: those along a path."""
    return tuple(
        name for name, method_class in METHODS.items() if issubclass(method_class, PathMethod)
    )
