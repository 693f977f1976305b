# SPDX-License-Identifier: MIT
"""What recorder and player have in common: limits, and refusals."""

from __future__ import annotations

from collections.abc import Mapping

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

__all__ = [
    "CLOSE_TIMEOUT_S",
    "MAX_MESSAGE",
    "refusal",
    "wants_websocket",
]

MAX_MESSAGE = 16 * 1024 * 1024
CLOSE_TIMEOUT_S = 5.0


def wants_websocket(request: Request) -> bool:
    """Whether a request asks for an upgrade at all."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


def refusal(status: int, headers: Mapping[str, str]) -> Response:
    """An HTTP answer without a body."""
    fixed = {"Connection": "close", "Content-Length": "0"}
    return Response(status, "Refused", Headers({**headers, **fixed}))
