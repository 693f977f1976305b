# SPDX-License-Identifier: MIT
"""Media signaling: who may publish and subscribe, and what the answers look like.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`, "Request
    offer from publisher" and around; error codes measured with HPB 2.0.2.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio

from ...protocol.messages import DataMessage
from . import frames
from .hub import Hub
from .mcu_messages import (
    candidate_of,
    description_frames,
    is_usable,
    may_publish,
    room_type_of,
    sdp_of,
    selection_of,
    target_of,
)
from .options import HpbOptions
from .state import Session

if TYPE_CHECKING:
    from .sfu import Sfu
    from .sfu_peers import Description

__all__ = ["MediaRelay", "is_media"]

logger = logging.getLogger("spreed_signaling.testing.hpb")

_UNSHARE_DELAY_S = 1.0

Spawn = Callable[..., None]


def is_media(message: DataMessage) -> bool:
    """Return whether the server itself handles a message instead of relaying it."""
    recipient = message.recipient
    return (
        recipient is not None
        and recipient.type == "session"
        and isinstance(message.data, dict)
        and message.data.get("type") in _HANDLERS
    )


class MediaRelay:
    """Turns media messages into calls of the media server, and back.

    Args:
        hub: Sessions and rooms.
        options: Timings.
        spawn: Runs `function(*args)` in the background, logging its errors.
        lose: Decides which audio packets are lost.
    """

    def __init__(
        self,
        hub: Hub,
        options: HpbOptions,
        *,
        spawn: Spawn,
        lose: Callable[[int], bool],
    ) -> None:
        self._hub = hub
        self._options = options
        self._spawn = spawn
        self._lose = lose
        self.sfu: Sfu | None = None
        """None until the first media message."""

    async def handle(self, session: Session, message: DataMessage) -> None:
        """Handle a message for which `is_media` is true."""
        await _HANDLERS[message.data["type"]](self, session, message)

    def ended(self, session_id: str) -> None:
        """Close a session's publishers and subscribers."""
        if self.sfu is not None:
            self.sfu.close_session(session_id)

    def unshared(self, session: Session) -> None:
        """A session stopped sharing its screen; the stream ends soon after."""

        async def close() -> None:
            await anyio.sleep(_UNSHARE_DELAY_S)
            if self.sfu is not None:
                self.sfu.close_publisher(session.session_id, "screen")

        self._spawn(close)

    async def aclose(self) -> None:
        """Close all media connections."""
        if self.sfu is not None:
            await self.sfu.aclose()

    # One method per message type.

    async def _offer(self, session: Session, message: DataMessage) -> None:
        from . import sfu_sdp

        sdp = sdp_of(message)
        if sdp is None:
            session.send(frames.error(message.id, "no_sdp"))
            return
        if not self._is_sdp(session, message, sdp):
            return
        room_type = room_type_of(message)
        lines = sfu_sdp.offered_kinds(sdp)
        sent = {kind for kind, direction, _ in lines if direction.startswith("send")}
        if not may_publish(session, room_type, sent):
            text = "Not allowed to publish."
            session.send(frames.error(message.id, "not_allowed", text))
            return
        sid = str(message.data.get("sid") or "")

        async def publish() -> None:
            answer = await self._media().publish(
                session.session_id, room_type, sid, sdp
            )
            self._send(session, session, "answer", room_type, answer)

        await self._guarded(session, message, publish)

    async def _request_offer(self, session: Session, message: DataMessage) -> None:
        target = target_of(message)
        if target == session.session_id:
            return
        if not session.internal and not self._same_call(session, target):
            text = "Not allowed to request offer."
            session.send(frames.error(message.id, "not_allowed", text))
            return
        self._start_subscription(session, target, message)

    async def _send_offer(self, session: Session, message: DataMessage) -> None:
        room_type = room_type_of(message)
        kinds = {"video"} if room_type == "screen" else {"audio", "video"}
        if not may_publish(session, room_type, kinds):
            text = "Not allowed to send offer."
            session.send(frames.error(message.id, "not_allowed", text))
            return
        other = self._hub.sessions.get(target_of(message))
        if other is not None and other is not session:
            self._start_subscription(other, session.session_id, message)

    def _start_subscription(
        self, session: Session, publisher_id: str, message: DataMessage
    ) -> None:
        room_type = room_type_of(message)
        # An id of our own: one subscription may be asked for while another waits.
        sid = message.data.get("sid") or None

        async def subscribe() -> None:
            offer = await self._media().subscribe(
                session.session_id,
                publisher_id,
                room_type,
                sid=sid,
                wait_s=self._options.publisher_wait_s,
                alive=lambda: not session.ended,
            )
            if offer is not None:
                self._send_offer_to(session.session_id, publisher_id, room_type, offer)

        # Waiting for a publisher must not hold up the client's other messages.
        self._spawn(self._guarded, session, message, subscribe)

    async def _answer(self, session: Session, message: DataMessage) -> None:
        sdp = sdp_of(message)
        if sdp is None:
            session.send(frames.error(message.id, "no_sdp"))
        elif self._is_sdp(session, message, sdp):
            await self._guarded(
                session,
                message,
                lambda: self._media().accept(
                    session.session_id,
                    target_of(message),
                    room_type_of(message),
                    str(message.data.get("sid") or ""),
                    sdp,
                ),
            )

    async def _candidate(self, session: Session, message: DataMessage) -> None:
        if not self._has_client(session, message):
            return
        value = candidate_of(message)
        if value is None:
            session.send(frames.error(message.id, "no_candidate"))
        elif value["candidate"] and is_usable(value["candidate"]):
            await self._guarded(
                session,
                message,
                lambda: self._media().add_candidate(
                    session.session_id,
                    target_of(message),
                    room_type_of(message),
                    str(message.data.get("sid") or ""),
                    value,
                ),
            )

    async def _end_of_candidates(self, session: Session, message: DataMessage) -> None:
        # Accepted and ignored, as the real server does.
        self._has_client(session, message)

    async def _select(self, session: Session, message: DataMessage) -> None:
        if not self._has_client(session, message):
            return
        wanted = selection_of(message)
        if wanted is None:
            session.send(frames.error(message.id, "processing_failed"))
            return

        async def select() -> None:
            self._media().select(
                session.session_id, target_of(message), room_type_of(message), wanted
            )

        await self._guarded(session, message, select)

    # Inside.

    def _media(self) -> Sfu:
        if self.sfu is None:
            from .sfu import Sfu

            self.sfu = Sfu(
                spawn=self._spawn, on_update=self._send_offer_to, lose=self._lose
            )
        return self.sfu

    async def _guarded(
        self,
        session: Session,
        message: DataMessage,
        action: Callable[[], Awaitable[None]],
    ) -> None:
        from .sfu import MediaFailure, NoClient

        try:
            await action()
        except NoClient:
            session.send(frames.error(message.id, "client_not_found"))
        except MediaFailure as exc:
            logger.info("media request failed: %s", exc)
            session.send(frames.error(message.id, "processing_failed"))

    def _is_sdp(self, session: Session, message: DataMessage, sdp: str) -> bool:
        from . import sfu_sdp

        try:
            sfu_sdp.offered_kinds(sdp)
        except ValueError as exc:
            details = {"error": str(exc)}
            session.send(frames.error(message.id, "invalid_sdp", details=details))
            return False
        return True

    def _has_client(self, session: Session, message: DataMessage) -> bool:
        """Return whether there is a connection that a message can be about."""
        target, room_type = target_of(message), room_type_of(message)
        found = self.sfu is not None and self.sfu.has_client(
            session.session_id, target, room_type
        )
        if not found:
            session.send(frames.error(message.id, "client_not_found"))
        return found

    def _same_call(self, session: Session, other_id: str) -> bool:
        other = self._hub.sessions.get(other_id)
        room = session.room
        if other is None or room is None or other.room is not room:
            return False
        return room.is_in_call(session) and room.is_in_call(other)

    def _send_offer_to(
        self, session_id: str, publisher_id: str, room_type: str, offer: Description
    ) -> None:
        session = self._hub.sessions.get(session_id)
        if session is not None:
            self._send(session, publisher_id, "offer", room_type, offer)

    def _send(
        self,
        session: Session,
        sender: Session | str,
        kind: str,
        room_type: str,
        description: Description,
    ) -> None:
        told = description_frames(
            session.session_id,
            sender,
            kind=kind,
            room_type=room_type,
            description=description,
        )
        for frame in told:
            session.send(frame)


_HANDLERS: dict[str, Callable[[MediaRelay, Session, DataMessage], Awaitable[None]]] = {
    "offer": MediaRelay._offer,
    "requestoffer": MediaRelay._request_offer,
    "sendoffer": MediaRelay._send_offer,
    "answer": MediaRelay._answer,
    "candidate": MediaRelay._candidate,
    "endOfCandidates": MediaRelay._end_of_candidates,
    "selectStream": MediaRelay._select,
}
