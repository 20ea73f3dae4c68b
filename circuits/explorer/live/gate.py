"""Who is let in: those who know the token, at this server's own address, from this server's pages.

- Host must be an address that the server was bound to: a name that an attacker points at this
  machine (DNS rebinding) is refused.
- Origin, where a browser sends one, must be this server's own.
- All but the page's own program needs the token, which is compared in constant time.
- No answer is kept, framed elsewhere, or run as a script that stands in it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PUBLIC = "/assets/"
_REFUSED = 1008  # a WebSocket that goes against a rule


@dataclass(frozen=True)
class Gate:
    """A server's rules.

    token: that the address holds. hosts: what Host may say; empty where the server is open to
    other machines, whose names for it nobody knows. frames: pages that may show this one.
    """

    app: ASGIApp
    token: str
    hosts: frozenset[str]
    frames: str = "'none'"

    @property
    def policy(self) -> str:
        """The content security policy: the server's own files, and nothing that stands in a page.

        img-src: pictures that the page draws itself.
        """
        return (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
            "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
            f"frame-ancestors {self.frames}"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        why = self._refused(scope)
        if why is None:
            await self.app(scope, receive, self._guarded(send))
        elif scope["type"] == "http":
            await PlainTextResponse(why, status_code=403)(scope, receive, self._guarded(send))
        else:
            await send({"type": "websocket.close", "code": _REFUSED, "reason": why})

    def _refused(self, scope: Scope) -> str | None:
        """Why a request is refused; None where it is not."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.hosts and host not in self.hosts:
            return "this server is not asked by that name"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "asked from another page"
        if scope["path"].startswith(_PUBLIC):
            return None
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            return "the token is missing or wrong; open the address that `circuits explore` printed"
        return None

    def _guarded(self, send: Send) -> Send:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = self.policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cache-Control"] = "no-store"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
            await send(message)

        return with_headers
