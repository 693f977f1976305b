# SPDX-License-Identifier: MIT
"""What the edge in front of a gateway answers before the upgrade.

Source: modal-serving.md sections 3 and 4 (header forms, statuses, texts).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

from attrs import define, field
from websockets.datastructures import Headers
from websockets.http11 import Response

__all__ = [
    "NOT_DEPLOYED",
    "Handshake",
    "check_credentials",
    "plain_headers",
    "respond",
]

NOT_DEPLOYED = "modal-http: invalid function call"
"""With 404, for a path or app that is not there."""


@define(eq=False)
class Handshake:
    """One attempt to connect, also a refused one."""

    path: str
    """Request path, without its query."""
    status: int | None = None
    """HTTP status of the answer, 101 for an upgrade; None while it waits."""
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    """Request headers, secrets included, names in lower case."""


def check_credentials(
    headers: Mapping[str, str], bearers: Sequence[str]
) -> Response | None:
    """Refuse a request without one of the tokens; no tokens let everybody in.

    Args:
        headers: Of the request, names in lower case.
        bearers: Good tokens; a key and its secret are `key.secret`.
    """
    if not bearers:
        return None
    given = headers.get("authorization", "")
    if "modal-key" in headers or "modal-secret" in headers:
        given = f"Bearer {headers.get('modal-key')}.{headers.get('modal-secret')}"
    for token in bearers:
        if hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return None
    what = "invalid" if given else "missing"
    return respond(401, f"modal-http: {what} credentials for proxy authorization")


def plain_headers(headers: Headers) -> dict[str, str]:
    """Headers as a mapping, names in lower case."""
    return {name.lower(): value for name, value in headers.raw_items()}


def respond(status: int, text: str, extra: Mapping[str, str] | None = None) -> Response:
    """A plain HTTP answer."""
    body = text.encode() + b"\n"
    kind = "application/json" if text.startswith("{") else "text/plain; charset=utf-8"
    headers = Headers(
        [
            ("Connection", "close"),
            ("Content-Length", str(len(body))),
            ("Content-Type", kind),
            *(extra or {}).items(),
        ]
    )
    return Response(status, "As planned", headers, body)
