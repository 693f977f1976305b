# SPDX-License-Identifier: MIT
"""Nextcloud's side of the room API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from ..protocol.auth import backend_checksum, make_random
from ..protocol.backend import (
    RoomApiDelete,
    RoomApiDisinvite,
    RoomApiInCall,
    RoomApiMessage,
    RoomApiParticipants,
    RoomApiSwitchTo,
)
from ..protocol.messages import Message, serialise
from ..protocol.server_events import UserEntry
from ..types import InCallFlags
from ._requests import TIMEOUT_S, check, http_base_url, unreachable

__all__ = ["RoomApi"]


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
        self._client = client or httpx.AsyncClient(timeout=TIMEOUT_S)
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
            raise unreachable(exc) from exc
        check(answer)
