# SPDX-License-Identifier: MIT
"""The HTTP side of the stand-in: OCS envelopes and the endpoints in them.

Source:
    Nextcloud 31.0.6, AppAPI 5.0.2 and Talk 21.1.0, recorded.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ._exapp import ExApp, php_json

__all__ = ["OcsError", "OcsRequest", "make_app"]

_MAX_BODY = 1024 * 1024


class OcsError(Exception):
    """An endpoint refuses: HTTP status, and a text that names the reason."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


class OcsRequest:
    """One request to an OCS endpoint.

    Args:
        request: The HTTP request.
        body: Its body.
        user_id: The user in whose name the ExApp calls, empty for none; None if
            the request is not an ExApp's.
    """

    def __init__(self, request: Request, body: bytes, user_id: str | None) -> None:
        self.method = request.method
        self.path = request.url.path
        self.headers = request.headers
        self.body = body
        self.user_id = user_id

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            OcsError: If it is none.
        """
        try:
            data = json.loads(self.body)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise OcsError(400, "the body is not a JSON object")
        return data


Endpoint = Callable[[OcsRequest], Awaitable[Any]]
"""Takes a request and returns the `data` of the answer."""


def _envelope(version: str, data: Any, failure: OcsError | None = None) -> Response:
    """Wrap `data` as OCS version 1 or 2 does."""
    meta: dict[str, Any] = {"status": "ok", "statuscode": 200, "message": "OK"}
    status = 200
    if failure is not None:
        status = failure.status
        meta = {"status": "failure", "statuscode": status, "message": failure.message}
    if version == "v1.php":
        if failure is None:
            meta["statuscode"] = 100
        meta |= {"totalitems": "", "itemsperpage": ""}
    return _json_response({"ocs": {"meta": meta, "data": data}}, status)


def _json_response(data: Any, status: int) -> Response:
    return Response(
        php_json(data),
        status_code=status,
        media_type="application/json; charset=utf-8",
    )


def make_app(
    endpoints: dict[tuple[str, str], Endpoint],
    *,
    public: set[str],
    exapp: Callable[[], ExApp | None],
    known_user: Callable[[str], bool],
    received: Callable[[OcsRequest], None],
) -> Starlette:
    """Build the ASGI application.

    Args:
        endpoints: By method and path below `/ocs/v?.php`.
        public: Paths that need no ExApp's signature; a wrong one is refused
            there too.
        exapp: Returns the registered ExApp.
        known_user: Tells whether a user exists.
        received: Called for every request that reaches an endpoint.
    """

    async def serve(request: Request) -> Response:
        version = request.path_params["version"]
        path = "/" + request.path_params["rest"]
        try:
            endpoint = endpoints.get((request.method, path))
            if endpoint is None or version not in {"v1.php", "v2.php"}:
                raise OcsError(404, "Invalid query, please check the syntax.")
            body = await _read(request)
            user_id = _authenticate(request, path, exapp())
            if user_id is None and path not in public:
                raise _NotAuthenticated
            if user_id and not known_user(user_id):
                raise _NotAuthenticated
            call = OcsRequest(request, body, user_id)
            received(call)
            return _envelope(version, await endpoint(call))
        except _NotAuthenticated:
            return _json_response({"message": "AppAPI authentication failed"}, 401)
        except OcsError as exc:
            return _envelope(version, [], exc)

    methods = ["GET", "POST", "PUT", "DELETE"]
    return Starlette(
        routes=[Route("/ocs/{version}/{rest:path}", serve, methods=methods)]
    )


class _NotAuthenticated(Exception):
    """The request is not the ExApp's, or in the name of nobody known."""


def _authenticate(request: Request, path: str, app: ExApp | None) -> str | None:
    """Return the user of an ExApp's request, None if it carries no signature."""
    if "authorization-app-api" not in request.headers:
        return None
    user_id = None if app is None else app.authenticate(request.headers)
    if app is None or user_id is None:
        raise _NotAuthenticated
    # A disabled app may ask for its state, and report progress while installing.
    allowed = app.enabled or app.installing or path.endswith("/ex-app/state")
    if not allowed:
        raise _NotAuthenticated
    return user_id


async def _read(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise OcsError(413, "the body is too large")
    return body
