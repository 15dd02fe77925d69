"""`Access`: who may see the dashboard and who may change something."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detection.runtime.dashboard.address import names_this_machine
from detection.runtime.errors import OutputError

MIN_TOKEN = 12
"""Characters; a shorter one can be guessed."""

_DAYS = 30
_STYLE = "/style.css"  # the page that asks for the token uses it too

# Nothing is loaded from elsewhere, nothing inline runs, nobody frames the page.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def choose_token(given: str | None, *, loopback: bool) -> str | None:
    """The token that viewers need: `given`, or else a random one where other machines reach the dashboard.

    Raises:
        OutputError: `given` is too short or contains characters that a URL does not allow unescaped.

    """
    if given is None:
        return None if loopback else secrets.token_urlsafe(16)
    if len(given) < MIN_TOKEN:
        raise OutputError(f"dashboard: the token has {len(given)} characters; give it {MIN_TOKEN} or more")
    if not all(c.isascii() and (c.isalnum() or c in "-._~") for c in given):
        raise OutputError("dashboard: the token may contain letters, digits, '-', '.', '_' and '~' only")
    return given


class Access:
    """The gate before the pages, as ASGI middleware.

    With a token: every request must carry it, as `?token=` or in the cookie that the first answer to
    such a request sets. Without one (loopback): the request must name this machine as its host, so
    that a web page elsewhere cannot reach the dashboard through a name of its own (DNS rebinding).
    What changes something (POST) must come from a page of the dashboard itself.

    Args:
        app: what lies behind the gate.
        token: None asks for none.
        port: names the cookie, since cookies do not differ by port.
        refused: the HTML page for a browser without the token.

    """

    def __init__(self, app: ASGIApp, *, token: str | None, port: int, refused: str) -> None:
        self._app = app
        self._token = token
        self._cookie = f"swath_{port}"
        self._refused = refused
        # Not the token itself: reading a phone's cookies does not reveal it.
        self._session = "" if token is None else hmac.new(token.encode(), b"session", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (ASGI)."""
        if scope["type"] != "http":
            return  # no websockets here
        request = Request(scope)
        token = request.query_params.get("token", "")
        # Compared in constant time, as bytes: text beyond ASCII is refused by compare_digest.
        knows = self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())
        new_session = knows and not self._has_session(request)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if new_session:
                    headers.append("Set-Cookie", self._new_cookie())
            await send(message)

        answer = self._refusal(request, knows)
        await (answer or self._app)(scope, receive, with_headers)

    def _refusal(self, request: Request, knows: bool) -> Response | None:
        if self._token is None:
            if not names_this_machine(request.headers.get("host", "")):
                return JSONResponse({"error": "open this dashboard as http://localhost, or give it a token"}, 403)
        elif not knows and not self._has_session(request) and request.url.path != _STYLE:
            if "text/html" in request.headers.get("accept", ""):
                return Response(self._refused, 401, media_type="text/html")
            return JSONResponse({"error": "the token is missing or wrong"}, 401)
        if request.method not in ("GET", "HEAD") and not _same_origin(request):
            return JSONResponse({"error": "only a page of this dashboard may change something"}, 403)
        return None

    def _has_session(self, request: Request) -> bool:
        given = request.cookies.get(self._cookie, "")
        return bool(self._session) and hmac.compare_digest(given.encode(), self._session.encode())

    def _new_cookie(self) -> str:
        # Hexadecimal: nothing in it needs quoting.
        return f"{self._cookie}={self._session}; Path=/; Max-Age={_DAYS * 86400}; HttpOnly; SameSite=Strict"


def _same_origin(request: Request) -> bool:
    """Whether the browser says so; other programs send no such header, and cannot be tricked by a page."""
    origin = request.headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == request.headers.get("host")
    return request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
