"""Running the server: on this machine alone, unless more is asked for and understood."""

from __future__ import annotations

import secrets
import socket
import threading
from dataclasses import dataclass

import uvicorn

from circuits.errors import CircuitsError
from circuits.explorer.live.app import make_app
from circuits.explorer.live.desk import Backend
from circuits.explorer.live.gate import Gate
from circuits.explorer.live.messages import MOST_BYTES

LOCAL = ("127.0.0.1", "localhost", "::1")
_NOTEBOOKS = "http://localhost:* http://127.0.0.1:*"
_EVERYWHERE = ("0.0.0.0", "::", "")


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    token: without which it answers nothing.
    """

    host: str
    port: int
    token: str

    @property
    def url(self) -> str:
        """What to open in a browser."""
        host = "127.0.0.1" if self.host in _EVERYWHERE else self.host
        address = f"[{host}]" if ":" in host else host
        return f"http://{address}:{self.port}/?token={self.token}"


class ExplorerServer:
    """A server with its socket bound; it answers once `run` or `start` is called.

    Attributes:
        address: where it listens.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        allow_remote: bool = False,
        in_notebook: bool = False,
    ) -> None:
        """Bind the socket.

        Args:
            backend: the data, the model and its worker.
            host: the address to listen on.
            port: 0 takes one that is free.
            allow_remote: whether other machines may reach it.
            in_notebook: whether a notebook on this machine may show it in a frame.

        Raises:
            CircuitsError: for another machine's address without `allow_remote`, and a port that is
                taken.
        """
        if host not in LOCAL and not allow_remote:
            raise CircuitsError(
                f"--host {host}: other machines could reach it; whoever has the address could run "
                "the model and read all prompts, and nothing is encrypted. Add --allow-remote if "
                "that is meant"
            )
        self.backend = backend
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            self._socket.listen(128)
        except OSError as error:
            self._socket.close()
            raise CircuitsError(f"{host}:{port}: cannot listen there ({error.strerror})") from error
        port = self._socket.getsockname()[1]
        self.address = Address(host, port, secrets.token_urlsafe(24))
        names = {host, *(LOCAL[:2] if host in LOCAL else ())}
        hosts = (f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in names)
        gate = Gate(
            make_app(backend),
            self.address.token,
            frozenset() if host in _EVERYWHERE else frozenset(hosts),
            _NOTEBOOKS if in_notebook else "'none'",
        )
        config = uvicorn.Config(
            gate,
            log_level="warning",
            access_log=False,
            ws_max_size=MOST_BYTES,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve until Ctrl-C."""
        try:
            self._server.run([self._socket])
        finally:
            self.backend.worker.stop()

    def start(self) -> None:
        """Serve in a thread of its own until `stop`."""
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End a server that was started."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=30)
        self.backend.worker.stop()
