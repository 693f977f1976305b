# SPDX-License-Identifier: MIT
"""One client's frames, in order: hello, room, messages.

The caller awaits each frame before it reads the next one, which is the order
the real server keeps.
"""

from __future__ import annotations

import hmac
import logging
import time
from typing import Any

import anyio
from attrs import frozen

from ...errors import ProtocolViolation
from ...protocol.auth import BACKEND_PATH, internal_token
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
from .hub import Hub
from .mcu import MediaRelay
from .state import Link, ResumeIds, Session
from .throttle import Throttle

__all__ = ["Dispatcher", "ServerSecrets"]

logger = logging.getLogger("spreed_signaling.testing.hpb")


class _Refused(Exception):
    """A hello that is answered with an error."""

    def __init__(self, code: str, message: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.message = message


@frozen(kw_only=True, repr=False)
class ServerSecrets:
    """What the server was configured with."""

    backend_url: str
    """Nextcloud's base URL, without a slash at the end."""
    internal_secret: str
    """Empty: internal clients are not allowed."""


class Dispatcher:
    """Handles the frames of all clients."""

    def __init__(
        self,
        hub: Hub,
        secrets: ServerSecrets,
        *,
        backend: BackendClient,
        throttle: Throttle,
        media: MediaRelay | None,
        resume_ids: ResumeIds,
    ) -> None:
        self._hub = hub
        self._secrets = secrets
        self._backend = backend
        self._throttle = throttle
        self._media = media
        self._resume_ids = resume_ids

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
                await self._hello(link, message)
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

    # Hello.

    async def _hello(self, link: Link, message: ClientHello) -> None:
        link.hello_deadline = None  # Paused while the request is examined.
        try:
            if message.resume_id:
                await self._resume(link, message)
                return
            session = await self._authenticate(link, message)
        except _Refused as exc:
            self._hub.hello_failed(link, time.monotonic())
            link.send(frames.error(message.id, exc.code, exc.message))
            return
        self._hub.register(link, message.id, session, time.monotonic())

    async def _resume(self, link: Link, message: ClientHello) -> None:
        resume_id = message.resume_id or ""
        if not self._resume_ids.is_ours(resume_id):
            await self._fail("resume", link, "no_such_session")
        if not self._hub.resume(link, message.id, resume_id):
            raise _Refused("no_such_session")

    async def _authenticate(self, link: Link, message: ClientHello) -> Session:
        if message.version not in ("1.0", "2.0"):
            raise _Refused("invalid_hello_version")
        auth = message.auth
        if auth is None or auth.params is None:
            raise _Refused("invalid_format")
        if auth.type == "internal":
            return await self._internal_session(link, message, auth.params)
        if auth.type not in (None, "", "client"):
            raise _Refused("invalid_client_type")
        if not auth.url or not self._is_ours(auth.url):
            raise _Refused("invalid_backend")
        if message.version == "2.0":
            # Documented gap: tokens would need Nextcloud's public key.
            raise _Refused("invalid_token")
        return await self._user_session(message, auth.url, auth.params)

    async def _internal_session(
        self, link: Link, message: ClientHello, params: dict[str, Any]
    ) -> Session:
        secret = self._secrets.internal_secret
        if not secret:
            raise _Refused("invalid_client_type")
        random, token, base = (
            str(params.get(key) or "") for key in ("random", "token", "backend")
        )
        if len(random) < 32 or not token or not base:
            raise _Refused("invalid_format")
        expected = internal_token(secret, random)
        if self._throttle.blocked("internal", link.address, time.monotonic()):
            raise _Refused("too_many_requests")
        if not hmac.compare_digest(expected.encode(), token.encode()):
            await self._fail("internal", link, "invalid_token")
        if not self._is_ours(base):
            await self._fail("internal", link, "invalid_backend")
        return self._session(
            message,
            internal=True,
            backend_url=f"{base.rstrip('/')}/{BACKEND_PATH}",
        )

    async def _user_session(
        self, message: ClientHello, url: str, params: dict[str, Any]
    ) -> Session:
        try:
            answer = await self._backend.call(url, "auth", {"params": params})
        except BackendFailure as exc:
            raise _Refused("internal_error", str(exc)) from exc
        body = answer[answer["type"]]
        if answer["type"] == "error":
            raise _Refused(str(body.get("code")), str(body.get("message")))
        if answer["type"] != "auth":
            raise _Refused("auth_failed")
        return self._session(
            message,
            internal=False,
            backend_url=url,
            user_id=str(body.get("userid") or ""),
            user=body.get("user"),
        )

    def _session(
        self,
        message: ClientHello,
        *,
        internal: bool,
        backend_url: str,
        user_id: str = "",
        user: Any = None,
    ) -> Session:
        return Session(
            version=message.version or "1.0",
            user_id=user_id,
            user=user if isinstance(user, dict) else None,
            features=message.features or (),
            internal=internal,
            backend_url=backend_url,
            resume_id=self._resume_ids.make(),
        )

    async def _fail(self, action: str, link: Link, code: str) -> None:
        """Count a failed attempt, wait out its penalty, and refuse.

        Raises:
            _Refused: Always.
        """
        now = time.monotonic()
        if self._throttle.blocked(action, link.address, now):
            raise _Refused("too_many_requests")
        await anyio.sleep(self._throttle.fail(action, link.address, now))
        raise _Refused(code)

    def _is_ours(self, url: str) -> bool:
        base = self._secrets.backend_url
        return url == base or url.startswith(f"{base}/")

    # Rooms.

    async def _room(self, session: Session, message: RoomMessage) -> None:
        room_token = message.room_token
        if room_token is None:
            session.send(frames.error(message.id, "invalid_format"))
        elif not room_token:
            if session.room is not None and not session.internal:
                if not session.user_id:
                    self._hub.expect_join(session, time.monotonic())
            self._hub.leave(session, message.id)
        elif message.federation is not None:
            session.send(frames.error(message.id, "federation_unsupported"))
        elif session.room is not None and session.room.token == room_token:
            self._hub.already_joined(session, message.id, message.nc_session_id or "")
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
            self._hub.join(session, message.id, room_token, nc_session_id, answer, now)

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
            if not mcu.is_well_formed(message):
                session.send(frames.error(message.id, "invalid_format"))
                return
            if mcu.is_media(message):
                await media.handle(session, message)
                return
            if message.data["type"] == "unshareScreen":
                media.unshared(session)
        routing.relay(self._hub, session, message)

    def _internal(self, session: Session, message: InternalMessage) -> None:
        """Carry out `incall`; virtual sessions and dialout are not offered."""
        if not session.internal:
            return
        if message.kind == "incall" and message.in_call is not None:
            flags = message.in_call.in_call or 0
            self._hub.set_in_call(session, flags, time.monotonic())
