# SPDX-License-Identifier: MIT
"""The signaling server's HTTP side: its room API, and what it says about itself.

`RoomApi` is the part that Nextcloud plays towards the server: services that know
the backend secret can report call states and send messages with it. Needs the
extra `[http]`.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`, "Rooms" and
    "Backend requests".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx
from attrs import frozen

from .errors import RoomApiError, UsageError
from .protocol.auth import backend_checksum, make_random
from .protocol.backend import (
    RoomApiDelete,
    RoomApiDisinvite,
    RoomApiInCall,
    RoomApiMessage,
    RoomApiParticipants,
    RoomApiSwitchTo,
)
from .protocol.messages import Message, serialise
from .protocol.server_events import UserEntry
from .types import InCallFlags

__all__ = ["RoomApi", "ServerWelcome", "http_base_url", "server_info", "welcome"]

_MAX_BODY = 256 * 1024
"""Largest request body the server reads, in bytes; a larger one is a 413."""

_TIMEOUT_S = 10.0

_MEANINGS = {
    403: "the backend secret or backend URL is not the server's",
    404: "nothing there; is this the address of a signaling server?",
    411: "the server wants a Content-Length",
    413: f"the request is larger than {_MAX_BODY} bytes",
    429: "too many failed attempts from this address",
}


@frozen(kw_only=True)
class ServerWelcome:
    """What a signaling server says about itself to anybody."""

    version: str
    """Its version; may be `unreleased`, so do not decide by it alone."""
    features: frozenset[str]
    """Features of the header `X-Spreed-Signaling-Features`."""


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
    data = _json_object(answer)
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
    return _json_object(await _get(f"{http_base_url(url)}/api/v1/serverinfo", client))


class RoomApi:
    """Nextcloud's requests to the signaling server about one or more rooms.

    Use as an asynchronous context manager. Every method sends one request and
    returns when the server took it; it is safe to cancel, and requests may run at
    the same time. Session ids are Nextcloud's, as registered when joining; the
    server rewrites them. A request that is older than the last one of its type is
    ignored by the server.

    Args:
        hpb_url: The signaling server, see `http_base_url`.
        backend_url: Nextcloud's base URL as the server knows it.
        secret: The secret shared by Nextcloud and the server.
        client: Client to use and leave open, instead of an own one.
    """

    def __init__(
        self,
        hpb_url: str,
        backend_url: str,
        secret: str,
        *,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._base = http_base_url(hpb_url)
        self._backend_url = backend_url.rstrip("/") + "/"
        self._secret = secret
        self._client = client or httpx.AsyncClient(timeout=_TIMEOUT_S)
        self._own_client = client is None

    async def __aenter__(self) -> RoomApi:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._own_client:
            await self._client.aclose()

    async def in_call(
        self,
        room_token: str,
        flags: InCallFlags,
        *,
        changed: Sequence[UserEntry],
        users: Sequence[UserEntry],
    ) -> None:
        """Report the call flags of participants.

        Args:
            room_token: The room.
            flags: Flags of the change, as Talk sends them beside the lists.
            changed: The participants whose flags changed.
            users: All participants of the room with their flags.

        Raises:
            RoomApiError: If the server refuses or does not answer.
        """
        body = RoomApiInCall(
            in_call=int(flags), changed=tuple(changed), users=tuple(users)
        )
        await self.send(room_token, body)

    async def end_call(self, room_token: str) -> None:
        """Report that the call ended for everybody.

        Raises:
            RoomApiError: If the server refuses or does not answer.
        """
        await self.send(room_token, RoomApiInCall(in_call=0, all=True))

    async def participants(
        self,
        room_token: str,
        *,
        changed: Sequence[UserEntry],
        users: Sequence[UserEntry],
    ) -> None:
        """Report changed participants, for example other permissions.

        Raises:
            RoomApiError: If the server refuses or does not answer.
        """
        body = RoomApiParticipants(changed=tuple(changed), users=tuple(users))
        await self.send(room_token, body)

    async def message(self, room_token: str, data: Mapping[str, Any]) -> None:
        """Send data to everybody in the room, as Talk does for chat refreshes.

        Raises:
            RoomApiError: If the server refuses or does not answer.
        """
        await self.send(room_token, RoomApiMessage(data=dict(data)))

    async def disinvite(
        self,
        room_token: str,
        *,
        user_ids: Sequence[str] = (),
        nc_session_ids: Sequence[str] = (),
        all_user_ids: Sequence[str] = (),
    ) -> None:
        """Remove users or sessions from the room.

        Args:
            room_token: The room.
            user_ids: Users to remove.
            nc_session_ids: Sessions to remove.
            all_user_ids: Users who stay, who are told.

        Raises:
            RoomApiError: If the server refuses or does not answer.
        """
        body = RoomApiDisinvite(
            user_ids=tuple(user_ids),
            nc_session_ids=tuple(nc_session_ids),
            all_user_ids=tuple(all_user_ids),
        )
        await self.send(room_token, body)

    async def switch_to(
        self, room_token: str, target: str, nc_session_ids: Sequence[str]
    ) -> None:
        """Ask sessions to move to another room (server 1.1 and newer).

        Raises:
            RoomApiError: If the server refuses or does not answer.
        """
        body = RoomApiSwitchTo(room_token=target, sessions=list(nc_session_ids))
        await self.send(room_token, body)

    async def delete(self, room_token: str, *, user_ids: Sequence[str] = ()) -> None:
        """Report that the room was deleted.

        Raises:
            RoomApiError: If the server refuses or does not answer.
        """
        await self.send(room_token, RoomApiDelete(user_ids=tuple(user_ids)))

    async def send(self, room_token: str, message: Message) -> None:
        """Send one room API message of `protocol.backend`.

        Raises:
            RoomApiError: If the server refuses or does not answer.
        """
        body = serialise(message).encode()
        random = make_random()
        headers = {
            "Content-Type": "application/json",
            "Spreed-Signaling-Random": random,
            "Spreed-Signaling-Checksum": backend_checksum(self._secret, random, body),
            "Spreed-Signaling-Backend": self._backend_url,
        }
        url = f"{self._base}/api/v1/room/{quote(room_token, safe='')}"
        try:
            answer = await self._client.post(url, content=body, headers=headers)
        except httpx.HTTPError as exc:
            raise _unreachable(exc) from exc
        _check(answer)


async def _get(url: str, client: httpx.AsyncClient | None) -> httpx.Response:
    try:
        if client is not None:
            answer = await client.get(url)
        else:
            async with httpx.AsyncClient(timeout=_TIMEOUT_S) as own:
                answer = await own.get(url)
    except httpx.HTTPError as exc:
        raise _unreachable(exc) from exc
    _check(answer)
    return answer


def _unreachable(exc: httpx.HTTPError) -> RoomApiError:
    """Map a transport error; some of httpx's have no text."""
    return RoomApiError(None, str(exc) or type(exc).__name__)


def _check(answer: httpx.Response) -> None:
    if not answer.is_success:
        status = answer.status_code
        reason = _MEANINGS.get(status) or answer.reason_phrase or "refused"
        raise RoomApiError(status, reason)


def _json_object(answer: httpx.Response) -> dict[str, Any]:
    try:
        data = answer.json()
    except ValueError as exc:
        raise RoomApiError(answer.status_code, "the answer is not JSON") from exc
    if not isinstance(data, dict):
        raise RoomApiError(answer.status_code, "the answer is not a JSON object")
    return data
