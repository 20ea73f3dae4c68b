"""Checks every annotation of two packages at run time, and compiles each check once.

jaxtyping's import hook does the same, and compiles the checks of a function defined inside another
at each call of the outer one: with the closures of this package that was four fifths of the time of
the tests. Here a check is compiled when its function is first called, kept by the function's code,
and bound again to each closure over that code.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import marshal
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import cache_from_source, source_hash
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, get_args

from beartype import beartype
from beartype.door import die_if_unbearable
from jaxtyping import AbstractArray, config, jaxtyped

_SELF = Path(__file__).read_bytes()  # what was compiled by other rules is not taken
_NAME = "__check_shapes__"
_IMPORTS = "__imports_for_type_checkers__"
# By identity: the code objects of two dataclasses' __init__ can be equal. The code is kept alive
# beside its check, so that no other takes its id.
_compiled: dict[int, tuple[CodeType, FunctionType | None, bool]] = {}
_calls: dict[int, int] = {}  # of a code, since `begin`
CHECKED = 24
"""Calls of one function that are checked in a test; thousands more have the shapes of these."""


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, or the dataclass, with its annotations checked at each call.

    Names of dimensions agree within one call: `Float[Tensor, "batch pos"]` twice is one `batch`.
    """
    if isinstance(function, type):
        if dataclasses.is_dataclass(function) and "__init__" in vars(function):
            _type_inherited(function)
            function.__init__ = check(function.__init__)
        return function
    if not isinstance(function, FunctionType) or not function.__annotations__:
        return function

    bound: list[
        Callable[..., Any]
    ] = []  # made at the first call: annotations may name what follows
    code = id(function.__code__)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        calls = _calls.get(code, 0)
        if calls >= CHECKED or config.jaxtyping_disable:
            return function(*args, **kwargs)
        _calls[code] = calls + 1
        if not bound:
            bound.append(_bind(function))
        return bound[0](*args, **kwargs)

    return checked


def begin() -> None:
    """Another test begins: calls are checked again."""
    _calls.clear()


def _type_inherited(kind: type) -> None:
    """Evaluate the annotations of fields from other modules there, where their names are known."""
    annotations = kind.__init__.__annotations__
    for base in kind.__mro__[1:]:
        if dataclasses.is_dataclass(base):
            scope = vars(sys.modules[base.__module__])
            for name, annotation in vars(base).get("__annotations__", {}).items():
                if isinstance(annotation, str) and annotations.get(name) == annotation:
                    with contextlib.suppress(NameError):  # imported for type checkers alone
                        annotations[name] = eval(annotation, scope)


def _bind(function: FunctionType) -> Callable[..., Any]:
    """The compiled check of the code, calling this very closure; itself if nothing is annotated."""
    if inspect.isgeneratorfunction(function):
        return _checked_at_the_call(function)
    code = function.__code__
    if id(code) not in _compiled:
        typed = _with_types(function)
        checked = beartype(typed)
        named = "__beartype_func" in (checked.__kwdefaults__ or {})
        _compiled[id(code)] = (code, checked if named else None, _has_shapes(typed))
    _, checked, shaped = _compiled[id(code)]
    if checked is None:
        return function
    bound = FunctionType(checked.__code__, checked.__globals__, closure=checked.__closure__)
    bound.__defaults__ = checked.__defaults__
    bound.__kwdefaults__ = {**checked.__kwdefaults__, "__beartype_func": function}
    if not shaped:  # no dimension to remember: the frame for them would cost more than the check
        return bound

    def within(*args: Any, **kwargs: Any) -> Any:
        with jaxtyped("context"):
            return bound(*args, **kwargs)

    return within


def _checked_at_the_call(function: FunctionType) -> Callable[..., Any]:
    """A generator's arguments, checked when it is called.

    beartype checks them at the first step: among the dimensions of whoever steps, by then.
    """
    annotations, signature = _with_types(function).__annotations__, inspect.signature(function)

    def within(*args: Any, **kwargs: Any) -> Any:
        with jaxtyped("context"):
            for name, value in signature.bind(*args, **kwargs).arguments.items():
                kind = signature.parameters[name].kind
                if name in annotations and kind not in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD):
                    die_if_unbearable(value, annotations[name])
        return function(*args, **kwargs)

    return within


def _has_shapes(function: FunctionType) -> bool:
    """Whether an annotation names dimensions, at any depth."""
    stack = list(function.__annotations__.values())
    while stack:
        one = stack.pop()
        if isinstance(one, str) or (isinstance(one, type) and issubclass(one, AbstractArray)):
            return True
        stack += one if isinstance(one, list) else get_args(one)  # a Callable's are a list
    return False


def _with_types(function: FunctionType) -> FunctionType:
    """Its annotations evaluated, with the names that are imported for type checkers alone."""
    scope = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    if imports := scope.get(_IMPORTS):
        exec(imports, scope)
    evaluated = {}
    for name, annotation in function.__annotations__.items():
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, scope)
            except TypeError:  # tqdm[None] is for type checkers: the class takes no subscript
                continue
        evaluated[name] = annotation
    copy = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = evaluated
    copy.__qualname__ = function.__qualname__
    copy.__module__ = function.__module__
    return copy


class _Decorate(ast.NodeTransformer):
    """Puts `check` closest to each function, and outermost on each class."""

    def __init__(self) -> None:
        self.imports: list[ast.stmt] = []

    def _nested(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        name = ast.copy_location(ast.Name(_NAME, ast.Load()), node)
        if isinstance(node, ast.ClassDef):
            node.decorator_list.insert(0, name)
        else:
            node.decorator_list.append(name)
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            self.imports += node.body
        return node

    visit_FunctionDef = visit_ClassDef = _nested  # noqa: N815


class _Loader(SourceFileLoader):
    """Compiles a module with its checks; what came out is kept beside Python's own bytecode."""

    def exec_module(self, module: ModuleType) -> None:
        code, imports = self._code_of(self.get_filename(module.__name__))
        setattr(module, _NAME, check)
        setattr(module, _IMPORTS, imports)
        exec(code, vars(module))

    def _code_of(self, path: str) -> tuple[CodeType, CodeType]:
        source = self.get_data(path)
        key = source_hash(source + _SELF)
        kept = Path(cache_from_source(path, optimization="shapes"))
        try:
            held = kept.read_bytes()
            if held.startswith(key):
                return marshal.loads(held[len(key) :])
        except (OSError, EOFError, ValueError, TypeError):  # not there, or cut off: made again
            pass
        decorate = _Decorate()
        tree = ast.fix_missing_locations(decorate.visit(ast.parse(source, path)))
        imports = ast.Module(decorate.imports, [])
        both = tuple(compile(one, path, "exec", dont_inherit=True) for one in (tree, imports))
        if not sys.dont_write_bytecode:
            with contextlib.suppress(OSError):
                self.set_data(str(kept), key + marshal.dumps(both))  # whole or not at all
        return both


class _Finder(MetaPathFinder):
    def __init__(self, packages: Sequence[str]):
        self.packages = tuple(packages)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.split(".")[0] not in self.packages:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install(packages: Sequence[str]) -> None:
    """Checks whatever of these packages is imported from here on."""
    sys.meta_path.insert(0, _Finder(packages))
