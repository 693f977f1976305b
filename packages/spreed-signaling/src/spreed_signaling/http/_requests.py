# SPDX-License-Identifier: MIT
"""What all requests to the server have in common: its address, and its refusals."""

from __future__ import annotations

from typing import Any

import httpx

from ..errors import RoomApiError, UsageError

__all__ = [
    "TIMEOUT_S",
    "check",
    "http_base_url",
    "json_object",
    "unreachable",
]

_MAX_BODY = 256 * 1024
"""Largest request body the server reads, in bytes; a larger one is a 413."""

TIMEOUT_S = 10.0

_MEANINGS = {
    403: "the backend secret or backend URL is not the server's",
    404: "nothing there; is this the address of a signaling server?",
    411: "the server wants a Content-Length",
    413: f"the request is larger than {_MAX_BODY} bytes",
    429: "too many failed attempts from this address",
}


def http_base_url(url: str) -> str:
    """Return a signaling server's HTTP base URL without a slash at the end.

    Args:
        url: `http`, `https`, `ws` or `wss`, with or without `/` or `/spreed`.

    Raises:
        UsageError: If the scheme is none of these.
    """
    scheme, separator, rest = url.partition("://")
    plain = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
    if not separator or scheme.lower() not in plain or not rest.strip("/"):
        raise UsageError(f"not the URL of a signaling server: {url!r}")
    rest = rest.rstrip("/").removesuffix("/spreed").rstrip("/")
    return f"{plain[scheme.lower()]}://{rest}"


def unreachable(exc: httpx.HTTPError) -> RoomApiError:
    """Map a transport error; some of httpx's have no text."""
    return RoomApiError(None, str(exc) or type(exc).__name__)


def check(answer: httpx.Response) -> None:
    """Raise `RoomApiError` if the server refused."""
    if not answer.is_success:
        status = answer.status_code
        reason = _MEANINGS.get(status) or answer.reason_phrase or "refused"
        raise RoomApiError(status, reason)


def json_object(answer: httpx.Response) -> dict[str, Any]:
    """Read an answer; raises `RoomApiError` if it is something else."""
    try:
        data = answer.json()
    except ValueError as exc:
        raise RoomApiError(answer.status_code, "the answer is not JSON") from exc
    if not isinstance(data, dict):
        raise RoomApiError(answer.status_code, "the answer is not a JSON object")
    return data
