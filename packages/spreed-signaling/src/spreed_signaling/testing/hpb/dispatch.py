# SPDX-License-Identifier: MIT
"""One client's frames, in order: hello, room, messages.

The caller awaits each frame before it reads the next one, which is the order
the real server keeps.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from ...errors import ProtocolViolation
from ...protocol.messages import (
    Bye,
    ClientHello,
    Control,
    DataMessage,
    InternalMessage,
    Message,
    RoomMessage,
    TransientMessage,
)
from ...protocol.parsing import parse_client
from . import frames, mcu, routing
from .backend import BackendClient, BackendFailure
from .hello import Greeter
from .hub import Hub
from .mcu import MediaRelay
from .mcu_messages import is_well_formed
from .state import Link, Session

__all__ = ["Dispatcher"]

logger = logging.getLogger("spreed_signaling.testing.hpb")


class Dispatcher:
    """Handles the frames of all clients."""

    def __init__(
        self,
        hub: Hub,
        greeter: Greeter,
        backend: BackendClient,
        media: MediaRelay | None,
    ) -> None:
        self._hub = hub
        self._greeter = greeter
        self._backend = backend
        self._media = media

    async def handle(self, link: Link, text: str | None) -> None:
        """Handle one frame; None stands for a binary one.

        Not to be called twice at the same time for one link. Cancelling it may
        leave the client without an answer.
        """
        try:
            if text is None:
                raise ProtocolViolation("binary frame")
            message = parse_client(text)
        except ProtocolViolation:
            link.send(frames.error(None, "invalid_format"))
            return
        session = link.session
        if isinstance(message, ClientHello):
            # A second hello on an authenticated connection is ignored.
            if session is None:
                await self._greeter.hello(link, message)
        elif session is None:
            link.send(frames.error(message.id, "hello_expected"))
        elif isinstance(message, Bye):
            self._hub.bye(link, message.id)
        else:
            await self._authenticated(session, message)

    async def _authenticated(self, session: Session, message: Message) -> None:
        match message:
            case RoomMessage():
                await self._room(session, message)
            case DataMessage() | Control():
                await self._data(session, message)
            case InternalMessage():
                self._internal(session, message)
            case TransientMessage():
                routing.transient(session, message, time.monotonic())
            case _:
                pass  # The real server ignores types that it does not know.

    # Rooms.

    async def _room(self, session: Session, message: RoomMessage) -> None:
        # A missing room id means the same as an empty one, measured.
        room_token = message.room_token or ""
        if not room_token:
            if session.room is not None and not session.internal:
                if not session.user_id:
                    self._hub.expect_join(session, time.monotonic())
            self._hub.rooms.leave(session, message.id)
        elif message.federation is not None:
            session.send(frames.error(message.id, "federation_unsupported"))
        elif session.room is not None and session.room.token == room_token:
            nc_session_id = message.nc_session_id or ""
            self._hub.rooms.already_joined(session, message.id, nc_session_id)
        else:
            await self._join(session, message, room_token)

    async def _join(
        self, session: Session, message: RoomMessage, room_token: str
    ) -> None:
        nc_session_id = message.nc_session_id or ""
        answer: dict[str, Any] | None = None
        if not session.internal:
            # Clients older than Nextcloud's session ids are known by ours.
            nc_session_id = nc_session_id or session.session_id
            request = {
                "roomid": room_token,
                "userid": session.user_id,
                "sessionid": nc_session_id,
            }
            try:
                reply = await self._backend.call(session.backend_url, "room", request)
            except BackendFailure as exc:
                session.send(frames.error(message.id, "internal_error", str(exc)))
                return
            answer = reply[reply["type"]]
            if reply["type"] == "error":
                code = str(answer.get("code"))
                text = str(answer.get("message"))
                session.send(frames.error(message.id, code, text))
                return
            if reply["type"] != "room":
                session.send(frames.error(message.id, "room_join_failed"))
                return
        if not session.ended:
            now = time.monotonic()
            self._hub.displace(session, nc_session_id)
            self._hub.rooms.enter(
                session, message.id, room_token, nc_session_id, answer, now
            )

    # Messages.

    async def _data(self, session: Session, message: DataMessage | Control) -> None:
        if not routing.is_valid(message):
            session.send(frames.error(message.id, "invalid_format"))
            return
        media = self._media
        recipient = message.recipient
        if (
            media is not None
            and isinstance(message, DataMessage)
            and recipient is not None
            and recipient.type == "session"
            and isinstance(message.data, dict)
        ):
            if not is_well_formed(message):
                session.send(frames.error(message.id, "invalid_format"))
                return
            if mcu.is_media(message):
                await media.handle(session, message)
                return
            if message.data.get("type") == "unshareScreen":
                media.unshared(session)
        routing.relay(self._hub, session, message)

    def _internal(self, session: Session, message: InternalMessage) -> None:
        """Carry out `incall`; virtual sessions and dialout are not offered."""
        if not session.internal:
            return
        if message.kind == "incall" and message.in_call is not None:
            flags = message.in_call.in_call or 0
            self._hub.rooms.set_in_call(session, flags, time.monotonic())
