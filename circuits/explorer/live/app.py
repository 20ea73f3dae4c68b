"""The server's application: the page, its data, and a socket for each window."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import FastAPI, Response, WebSocket, WebSocketDisconnect

from circuits.errors import CircuitsError
from circuits.explorer.contents import Json
from circuits.explorer.live.desk import Backend, Desk
from circuits.explorer.live.messages import read
from circuits.plot.palette import css_variables

WINDOWS = 64
"""Open at a time, at most."""

_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript"}
_FULL = 1013  # try again later


def make_app(backend: Backend) -> FastAPI:
    """The application, to be put behind a `Gate`; it looks at no token itself.

    Args:
        backend: the data, the model and its worker.

    Returns:
        The page at `/`, its program under `/assets/`, its data at `/contents`, and `/live`, a
        WebSocket.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    files = _files()
    about = json.dumps(backend.about(), allow_nan=False)
    windows: set[Desk] = set()

    @app.get("/")
    def index() -> Response:
        return _file(files, "index.html")

    @app.get("/assets/{name:path}")
    def asset(name: str) -> Response:
        return _file(files, name)

    @app.get("/contents")
    def contents() -> Response:
        return Response(about, media_type="application/json")

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        if len(windows) >= WINDOWS:
            await socket.close(_FULL, "too many windows are open")
            return
        loop, outbox = asyncio.get_running_loop(), asyncio.Queue[str]()

        def told(number: int, what: str, content: Json) -> None:
            text = json.dumps({"id": number, "what": what, **content}, allow_nan=False)
            with suppress(RuntimeError):  # the loop has ended, and the window with it
                loop.call_soon_threadsafe(outbox.put_nowait, text)

        desk = Desk(backend, told)
        windows.add(desk)
        sender = asyncio.create_task(_send(socket, outbox))
        try:
            while True:
                await _take(desk, await socket.receive_text(), outbox)
        except WebSocketDisconnect:
            pass
        finally:
            desk.leave()
            windows.discard(desk)
            sender.cancel()

    return app


async def _take(desk: Desk, text: str, outbox: asyncio.Queue[str]) -> None:
    """Hand on a request; what is wrong with it is said to the window."""
    try:
        desk.ask(read(text))
    except CircuitsError as error:
        match = re.match(r'\s*\{\s*"id"\s*:\s*(\d{1,15})\b', text)
        number = int(match[1]) if match else None
        await outbox.put(json.dumps({"id": number, "what": "error", "said": str(error)}))


async def _send(socket: WebSocket, outbox: asyncio.Queue[str]) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):  # it closed in the meantime
        while True:
            await socket.send_text(await outbox.get())


def _files() -> dict[str, str]:
    """The page's files by their names: no request ever names a path on the disk."""
    root = resources.files("circuits.explorer").joinpath("assets")
    files = {"palette.css": css_variables(":root")}

    def walk(folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                walk(entry, f"{prefix}{entry.name}/")
            elif entry.name.rpartition(".")[2] in _TYPES:
                files[f"{prefix}{entry.name}"] = entry.read_text(encoding="utf-8")

    walk(root, "")
    return files


def _file(files: dict[str, str], name: str) -> Response:
    if name not in files:
        return Response("no such file", status_code=404, media_type="text/plain")
    return Response(files[name], media_type=_TYPES[name.rpartition(".")[2]])
