# SPDX-License-Identifier: MIT
"""A room, for as long as an application wants to be in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio

from .._events import EventStream
from ..errors import RequestTimeout, SessionEnded
from ..protocol.events import RoomLeft
from ..protocol.messages import DataMessage, Party
from ..types import Participant

if TYPE_CHECKING:
    from ._client import Client

__all__ = ["Room"]


class Room:
    """A room we are in, or are trying to be in; made by `Client.join`."""

    def __init__(self, client: Client, room_token: str) -> None:
        self.client = client
        self.room_token = room_token
        self._left: RoomLeft | None = None

    def __repr__(self) -> str:
        return f"<Room {self.room_token} joined={self.joined}>"

    @property
    def joined(self) -> bool:
        """Whether we are in the room right now."""
        return self._is_current and self.client.status().in_room

    @property
    def _is_current(self) -> bool:
        return self.client._room is self

    @property
    def participants(self) -> Mapping[str, Participant]:
        """Who else is in the room, by session id; empty when we are not."""
        return self.client.participants if self._is_current else {}

    def find_nc_session(self, nc_session_id: str) -> Participant | None:
        """Return who has this Nextcloud session id, if it is known yet."""
        if not self._is_current:
            return None
        return self.client._session.roster.find_nc_session(nc_session_id)

    def subscribe(self) -> EventStream:
        """Return a stream of everything that happens from now on."""
        return self.client.subscribe()

    def send_data(self, session_id: str, data: Any, *, keep_s: float = 10.0) -> str:
        """Send application data to one session; never blocks.

        Args:
            session_id: The recipient's HPB session id.
            data: Any JSON object. It needs a `type` that is not one of the
                server's own (`offer`, `answer`, `candidate`, `requestoffer` ...),
                and a `roomType` only with the server's meaning.
            keep_s: Seconds it may wait for a connection.

        Returns:
            The request id, see `Client.send`.

        Raises:
            UsageError: If the data cannot be JSON or is larger than 64 KiB.
        """
        message = DataMessage(recipient=Party.session(session_id), data=data)
        return self.client.send(message, keep_s=keep_s)

    async def wait_joined(self, timeout_s: float) -> None:
        """Wait until we are in the room.

        Cancellation-safe; any number of tasks may wait.

        Raises:
            RoomRefused: If the server does not let us in.
            RequestTimeout: If the server did not answer in time.
            SessionEnded: If we were put out, or have left already.
            SignalingError: If there is no session; see `connect`.
        """
        client = self.client
        with anyio.move_on_after(timeout_s):
            while not self.joined:
                if self._left is not None:
                    raise self._left.error or SessionEnded("put out of the room")
                if not self._is_current:
                    raise SessionEnded("we left the room")
                client._raise_if_hopeless()
                await client._changed.wait()
            return
        raise client.status().error or RequestTimeout("joining the room", timeout_s)
