"""`circuits.explore`: the explorer below a notebook's cell, or as a page."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.errors import CircuitsError
from circuits.explorer.contents import run_contents
from circuits.explorer.page import page, write_page
from circuits.models import HookedModel
from circuits.runs import RunFolder
from circuits.runtime.display import notebook_display

if TYPE_CHECKING:
    from circuits.explorer.live.serve import ExplorerServer
    from tasks.pairs import PairSet

_FILE = Path("explorer.html")


def explore(
    what: str | Path | RunFolder | HookedModel,
    pairs: PairSet | None = None,
    *,
    path: str | Path | None = None,
    height: int = 900,
) -> ExplorerServer | None:
    """Walk through a run's circuits, or click through a model.

    A run is shown as a page that needs no server. A model is served on this machine alone, behind a
    token, for as long as this process lives or until `stop()`.

    Args:
        what: a run folder, or its path; or a model.
        pairs: of a task, for a model: circuits are measured on them.
        path: for a run: the .html file to write; None shows it below the cell in a notebook, and
            writes explorer.html elsewhere.
        height: of the frame in a notebook, in pixels.

    Returns:
        The server of a model, whose `address.url` opens it in a browser; None for a run.

    Raises:
        CircuitsError: where there is no such run, it holds no scores, or the extra `explore` is not
            installed.
    """
    display = notebook_display()
    if isinstance(what, HookedModel):
        return _served(what, pairs, display, height)
    if pairs is not None:
        raise CircuitsError("pairs go with a model; a run folder brings its own")
    run = what if isinstance(what, RunFolder) else RunFolder(what)
    contents = run_contents(run, f"Circuits of {run.name}", "")
    if display is not None and path is None:
        inside = escape(page(contents), quote=True)
        _show(display, f'srcdoc="{inside}"', height)
        return None
    file = Path(path or _FILE)
    if file.suffix != ".html":
        raise CircuitsError(f"{file}: the explorer is written as .html")
    page_file = write_page(contents, file)
    sys.stdout.write(f"wrote {page_file.resolve()} (open it in a browser)\n")
    return None


def _served(
    model: HookedModel, pairs: PairSet | None, display: Callable[..., None] | None, height: int
) -> ExplorerServer:
    """Serve a model from a thread, and say where."""
    server = server_of(model=sharing_weights(model), pairs=pairs, in_notebook=display is not None)
    server.start()
    if display is None:
        sys.stdout.write(f"the explorer is at {server.address.url}\n")
    else:
        _show(display, f'src="{escape(server.address.url, quote=True)}"', height)
    return server


def sharing_weights(model: HookedModel) -> HookedModel:
    """The same model with modules of its own over the same weights.

    Hooks sit on modules, so a server's thread and a notebook's cells must not share them.

    Args:
        model: any; quantised weights and device maps have forwards of their own, which know their
            modules, so such a model is given back as it is.

    Returns:
        The model, checked again.
    """
    if model.quantisation or getattr(model.hf, "hf_device_map", None):
        return model
    tensors = (*model.hf.parameters(), *model.hf.buffers())
    twin = copy.deepcopy(model.hf, {id(tensor): tensor for tensor in tensors})
    return HookedModel(
        twin, model.tokenizer, model.name, gguf=model.gguf, asked_tokenizer=model.asked_tokenizer
    )


def server_of(
    *,
    run: RunFolder | None = None,
    model: HookedModel | None = None,
    pairs: PairSet | None = None,
    missing: tuple[str, ...] = (),
    **where: object,
) -> ExplorerServer:
    """A server of a run, a model, or both; its socket is bound, and it does not answer yet.

    Args:
        run: a run folder, whose circuits are shown.
        model: what answers clicks.
        pairs: of a task; circuits are measured on them.
        missing: what could not be had, in sentences that the page shows.
        **where: as for `ExplorerServer`.

    Returns:
        The server: `run()` serves until Ctrl-C, `start()` from a thread.

    Raises:
        CircuitsError: where the extra `explore` is not installed, or it cannot listen there.
    """
    try:
        backends = importlib.import_module("circuits.explorer.live.backends")
        serve = importlib.import_module("circuits.explorer.live.serve")
    except ModuleNotFoundError as error:
        raise CircuitsError(
            f"the explorer's server needs {error.name}; install it: "
            'pip install "circuit-discovery[explore]"'
        ) from error
    backend = backends.backend_of(run=run, model=model, pairs=pairs, missing=missing)
    server: ExplorerServer = serve.ExplorerServer(backend, **where)
    return server


def _show(display: Callable[..., None], source: str, height: int) -> None:
    frame = f'<iframe {source} style="width:100%;height:{height}px;border:0"></iframe>'
    display({"text/html": frame, "text/plain": "the explorer of circuits"}, raw=True)
