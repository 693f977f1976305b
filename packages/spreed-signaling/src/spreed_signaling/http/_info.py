# SPDX-License-Identifier: MIT
"""What a signaling server says about itself."""

from __future__ import annotations

from typing import Any

import httpx
from attrs import frozen

from ..errors import RoomApiError
from ._requests import TIMEOUT_S, check, http_base_url, json_object, unreachable

__all__ = ["ServerWelcome", "server_info", "welcome"]


@frozen(kw_only=True)
class ServerWelcome:
    """What a signaling server says about itself to anybody."""

    version: str
    """Its version; may be `unreleased`, so do not decide by it alone."""
    features: frozenset[str]
    """Features of the header `X-Spreed-Signaling-Features`."""


async def welcome(
    url: str, *, client: httpx.AsyncClient | None = None
) -> ServerWelcome:
    """Ask a signaling server for its version and features.

    Cancellation is safe; any number of calls may run at the same time.

    Args:
        url: Base URL, see `http_base_url`.
        client: Client to use instead of one made for this call.

    Raises:
        RoomApiError: If it does not answer within 10 s, or not like a signaling
            server.
        UsageError: If `url` is not one.
    """
    answer = await _get(f"{http_base_url(url)}/api/v1/welcome", client)
    data = json_object(answer)
    if "nextcloud-spreed-signaling" not in data:
        raise RoomApiError(answer.status_code, "this is not a signaling server")
    header = answer.headers.get("X-Spreed-Signaling-Features", "")
    features = frozenset(part.strip() for part in header.split(",") if part.strip())
    return ServerWelcome(version=str(data.get("version", "")), features=features)


async def server_info(
    url: str, *, client: httpx.AsyncClient | None = None
) -> dict[str, Any]:
    """Ask a signaling server for its `serverinfo` (2.0.3 and newer).

    Answered to addresses in `allowed_ips` of the server's [stats] section only.

    Args:
        url: Base URL, see `http_base_url`.
        client: Client to use instead of one made for this call.

    Raises:
        RoomApiError: If it does not answer, refuses, or does not know this.
        UsageError: If `url` is not one.
    """
    return json_object(await _get(f"{http_base_url(url)}/api/v1/serverinfo", client))


async def _get(url: str, client: httpx.AsyncClient | None) -> httpx.Response:
    try:
        if client is not None:
            answer = await client.get(url)
        else:
            async with httpx.AsyncClient(timeout=TIMEOUT_S) as own:
                answer = await own.get(url)
    except httpx.HTTPError as exc:
        raise unreachable(exc) from exc
    check(answer)
    return answer
