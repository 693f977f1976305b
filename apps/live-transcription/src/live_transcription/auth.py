# SPDX-License-Identifier: AGPL-3.0-or-later
"""AppAPI's authentication as pure ASGI middleware.

Not nc_py_api's: on a wrong secret that one prints the right one to stdout, and a
path exempted from it stays open even for forged users.

Source:
    AppAPI 5.0.2: `AUTHORIZATION-APP-API` is base64 of `USER:APP_SECRET`, the user
    empty for guests and for AppAPI itself. `AA-VERSION` may be missing and
    `EX-APP-VERSION` may differ.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["AppApiAuth", "authenticate"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATH = "/heartbeat"
"""AppAPI asks for it without credentials; nothing else is open."""


def authenticate(
    headers: list[tuple[bytes, bytes]], *, app_id: str, app_secret: str
) -> str | None:
    """Return the user id of a request, empty for guests; None if refused.

    Args:
        headers: Header names in lower case, and values, as ASGI has them.
        app_id: Ours.
        app_secret: Shared with AppAPI; compared in constant time.
    """
    values = dict(headers)
    if values.get(b"ex-app-id") != app_id.encode() or not app_secret:
        return None
    if not values.get(b"ex-app-version"):
        return None
    try:
        pair = base64.b64decode(
            values.get(b"authorization-app-api", b""), validate=True
        )
        user_id, colon, secret = pair.partition(b":")
        same = hmac.compare_digest(secret, app_secret.encode())
        return user_id.decode() if same and colon else None
    except (binascii.Error, UnicodeDecodeError):
        return None


class AppApiAuth:
    """Lets only AppAPI's requests through, and `/heartbeat`.

    Args:
        app: The application behind it.
        app_id: Our id.
        app_secret: Shared with AppAPI.
    """

    def __init__(self, app: AsgiApp, *, app_id: str, app_secret: str) -> None:
        self._app = app
        self._app_id = app_id
        self._app_secret = app_secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "websocket":
            # There are none here.
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The path of the request line: a Host header cannot change it.
        if scope["path"] != OPEN_PATH:
            user_id = authenticate(
                list(scope["headers"]),
                app_id=self._app_id,
                app_secret=self._app_secret,
            )
            if user_id is None:
                await _refuse(send)
                return
            scope["nextcloud_user_id"] = user_id
        await self._app(scope, receive, send)


async def _refuse(send: Send) -> None:
    body = json.dumps({"error": "not authenticated by AppAPI"}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
