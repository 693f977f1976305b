# SPDX-License-Identifier: MIT
"""The embedded server's HTTP side: the welcome and the room API."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ...protocol.auth import backend_checksum
from . import room_api
from .hub import Hub
from .options import VERSION, HpbOptions
from .throttle import Throttle

__all__ = ["HttpApi"]


class HttpApi:
    """Answers HTTP requests.

    Args:
        hub: Where room requests are carried out.
        options: Limits.
        throttle: Counts requests with a wrong checksum.
        backend_url: Nextcloud's base URL, without a slash at the end.
        backend_secret: The secret shared with Nextcloud.
        features: The value of the feature header.
        changed: Called after a request changed something.
    """

    def __init__(
        self,
        hub: Hub,
        options: HpbOptions,
        throttle: Throttle,
        *,
        backend_url: str,
        backend_secret: str,
        features: str,
        changed: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._options = options
        self._throttle = throttle
        self._backend_url = backend_url
        self._backend_secret = backend_secret
        self._features = features
        self._changed = changed

    def routes(self) -> list[Route]:
        """Return the routes to serve."""
        return [
            Route("/api/v1/welcome", self._welcome),
            Route("/api/v1/room/{token}", self._room, methods=["POST"]),
        ]

    async def _welcome(self, request: Request) -> Response:
        body = {"nextcloud-spreed-signaling": "Welcome", "version": VERSION}
        headers = {"X-Spreed-Signaling-Features": self._features}
        return JSONResponse(body, headers=headers)

    async def _room(self, request: Request) -> Response:
        length = request.headers.get("Content-Length", "")
        if not length.isdigit():
            return Response(status_code=411)
        if int(length) > self._options.max_room_request_bytes:
            return Response(status_code=413)
        body = await request.body()
        address = request.client.host if request.client is not None else ""
        now = time.monotonic()
        if self._throttle.blocked("room", address, now):
            return Response(status_code=429)
        if not self._is_signed(request, body):
            await anyio.sleep(self._throttle.fail("room", address, now))
            return Response(status_code=403)
        try:
            room_api.apply(self._hub, request.path_params["token"], json.loads(body))
        except room_api.NoDialout as exc:
            answer = {"error": {"code": exc.code, "message": exc.code}}
            return JSONResponse({"type": "dialout", "dialout": answer}, exc.status)
        except (ValueError, room_api.UnknownRequest):
            return Response(status_code=400)
        self._changed()
        return JSONResponse({})

    def _is_signed(self, request: Request, body: bytes) -> bool:
        backend = request.headers.get("Spreed-Signaling-Backend", "").rstrip("/")
        random = request.headers.get("Spreed-Signaling-Random", "")
        found = request.headers.get("Spreed-Signaling-Checksum", "")
        expected = backend_checksum(self._backend_secret, random, body)
        is_ours = not backend or f"{backend}/".startswith(f"{self._backend_url}/")
        return (
            is_ours
            and len(random) >= 32
            and hmac.compare_digest(found.encode(), expected.encode())
        )
