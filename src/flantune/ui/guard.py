"""Who may ask the local page: this machine's browser, by the page itself, with the token of this start.

A page of a foreign site can make a browser send requests to the loopback address, and a name that it controls can be
made to lead there (DNS rebinding). So `Host` must be the loopback address and port, `Origin` where there is one must be
the page's own, what changes something must have one, and everything needs a cookie that the printed address sets.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]

MOST_BYTES = 1 << 20  # of a request's body
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets through what the page itself asks, and puts the headers on that keep foreign things out.

    Args:
        app: What answers.
        port: Where it listens.
        token: What the printed address holds, at `/enter/TOKEN`.
    """

    def __init__(self, app: App, port: int, token: str) -> None:
        self.app, self.token = app, token
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        if port == 80:
            self.hosts |= {"127.0.0.1", "localhost"}
        self.cookie = f"flantune-{port}"  # cookies do not tell ports apart

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no WebSocket is spoken: the server refuses it

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope) or self._entrance(scope)
        await (answer or self.app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return _refused("this page answers to its loopback address alone")
        if origins and (len(origins) > 1 or origins[0].lower() != f"http://{hosts[0].lower()}"):
            return _refused("asked by another page")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _refused("asked by another site")
        if scope["method"] in ("GET", "HEAD"):
            return None
        if scope["method"] != "POST":
            return PlainTextResponse("not allowed", 405)
        if not origins:
            return _refused("no Origin is given")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return PlainTextResponse("JSON is expected", 415)
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return PlainTextResponse("Content-Length is expected", 411)
        return PlainTextResponse("too much", 413) if int(length) > MOST_BYTES else None

    def _entrance(self, scope: Scope) -> Response | None:
        """Sets the cookie for who has the token, and turns away who has neither."""
        path = scope["path"]
        if scope["method"] == "GET" and path.startswith("/enter/"):
            if not hmac.compare_digest(path.removeprefix("/enter/").encode(), self.token.encode()):
                return _refused("another start's address; take the one that flantune ui printed last")
            entered = RedirectResponse("/", 303)
            entered.set_cookie(self.cookie, self.token, path="/", httponly=True, samesite="strict")
            return entered
        given = _cookie(Headers(scope=scope).getlist("cookie"), self.cookie)
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return _refused("open the address that flantune ui printed")
        return None


def _cookie(headers: list[str], name: str) -> str:
    for header in headers:
        for part in header.split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
    return ""


def _refused(why: str) -> Response:
    return PlainTextResponse(why, 403)
