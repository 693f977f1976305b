# SPDX-License-Identifier: MIT
"""The session machine: hello or resume, room, goodbye, and what to do next.

Sans-I/O: the shell reports what happened to its socket with `now` (monotonic
seconds), sends what `messages_to_send` returns, and calls `tick` when
`deadline` has come. The machine survives its sockets: losing one is a state,
not an end.

Rules, from the server's documentation and measurements (HPB 2.0.2):

- A session outlives its socket by 30 s. After a successful resume nothing is
  sent again: room, call flags and media ran on ("Resuming sessions").
- One resume attempt per outage. If it is refused with `no_such_session`, a full
  hello follows on the same socket, which must come within 2 s.
- A fresh session knows nobody; what we were doing (room, call flags) is redone.
- A wrong internal secret is tried again only rarely, because failed attempts
  block the whole address (see `backoff.REFUSED_DELAY_S`).
"""

from __future__ import annotations

import logging
import random

from ..errors import (
    ConnectionLost,
    RequestFailed,
    RequestTimeout,
    SessionEnded,
    SignalingError,
    UsageError,
    hello_error,
)
from ..types import InCallFlags
from ._attempts import Attempts
from ._handshake import Handshake
from ._inbound import interpret_message
from ._rooms import Rooms
from .auth import Auth
from .events import (
    RequestErrored,
    SessionEvent,
    SessionFinished,
    SessionResumed,
    SessionStarted,
)
from .messages import Bye, ErrorMessage, HelloReply, Message, RoomMessage, Welcome
from .outbox import Outbox
from .parsing import parse_server
from .phases import Phase, SessionOptions, SessionStatus, next_phase
from .roster import Roster
from .server_events import Event

__all__ = ["SignalingSession"]

_log = logging.getLogger("spreed_signaling")


class SignalingSession:
    """One client's session with the signaling server.

    Args:
        auth: Who we are.
        options: Times and limits.
        jitter: Source of randomness for the delays between attempts.
    """

    def __init__(
        self,
        auth: Auth,
        options: SessionOptions | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self._auth = auth
        self._options = SessionOptions() if options is None else options
        jitter = random.Random() if jitter is None else jitter
        self._phase = Phase.DISCONNECTED
        self._attempts = Attempts(self._options.stable_s, jitter)
        self._handshake = Handshake(auth, self._options)
        self._outbox = Outbox(self._options.queue_limit, self._options.send_limit)
        self._rooms = Rooms(
            self._handshake,
            self._outbox,
            self._options,
            internal=auth.internal,
            jitter=jitter,
        )
        self._deadline: float | None = None
        """Of the hello or the goodbye that waits for an answer."""
        self._close_requested = False
        self._events: list[SessionEvent] = []

    # State.

    @property
    def session_id(self) -> str | None:
        """Our public session id; None before the first hello was answered."""
        return self._handshake.session_id

    @property
    def features(self) -> frozenset[str]:
        """What the server announced in its answer to the hello."""
        return self._handshake.features

    @property
    def roster(self) -> Roster:
        """Who else is in the room; read only."""
        return self._rooms.roster

    def status(self) -> SessionStatus:
        """Return a snapshot for people."""
        member = self._rooms.member
        ready = self._phase is Phase.READY
        waiting = self._phase is Phase.DISCONNECTED
        return SessionStatus(
            phase=self._phase,
            room_token=None if member is None else member.room_token,
            in_room=ready and member is not None and member.joined,
            error=self._attempts.error or self._rooms.error,
            retry_at=self._attempts.retry_at if waiting else None,
        )

    def wants_connection(self, now: float) -> bool:
        """Whether the shell should open a socket now."""
        return self._phase is Phase.DISCONNECTED and self._attempts.due(now)

    def close_expected(self) -> bool:
        """Whether the end of the current socket is normal."""
        return self._phase in (Phase.CLOSING, Phase.FINISHED)

    def close_requested(self) -> bool:
        """Whether the shell should close the current socket."""
        return self._close_requested

    # Receive: what happened on the network. Never raises for the peer's faults.

    def connection_opened(self, now: float) -> None:
        """A socket is open. Send `messages_to_send` next."""
        self._move("connection opened")
        self._attempts.begin()
        self._close_requested = False
        self._handshake.begin(self._outbox, now)
        self._deadline = now + self._options.hello_timeout_s

    def connection_lost(self, error: SignalingError, now: float) -> None:
        """The socket ended or could not be opened. Look at `events` next."""
        before = self._phase
        # What made us ask for closing was reported and planned then.
        planned = self._close_requested and self._attempts.planned
        self._move("connection lost")
        self._deadline = None
        self._close_requested = False
        self._give_up(self._outbox.drop_frames())
        self._rooms.connection_lost()
        if before is Phase.READY:
            self._handshake.connection_lost(now)
            self._attempts.session_lost(now)
        if before is Phase.CLOSING:
            self._end(None)
        elif self._phase is Phase.DISCONNECTED and not planned:
            self._events.append(self._attempts.plan(error, now))

    def receive(self, text: str | bytes, now: float) -> None:
        """A text frame arrived. Send `messages_to_send`, look at `events` next."""
        without = self._phase in (Phase.DISCONNECTED, Phase.FINISHED)
        if without or self._close_requested:
            # The shell is told to close: what still comes changes nothing.
            return
        try:
            message = parse_server(text)
        except SignalingError as exc:
            # One odd frame must not cost the session.
            _log.warning("ignoring a frame of the signaling server: %s", exc)
            return
        self._dispatch(message, now)

    # Act: what we want. Wrong use raises at once.

    def join(
        self,
        room_token: str,
        *,
        now: float,
        nc_session_id: str | None = None,
        in_call: InCallFlags = InCallFlags.IN_CALL,
    ) -> None:
        """Be in this room from now on, across reconnects.

        Args:
            room_token: Talk's conversation token.
            now: Monotonic seconds.
            nc_session_id: Our Nextcloud session id; internal clients must not
                give one, or the server treats them as participants.
            in_call: Call flags of an internal client; ignored for others, whose
                flags Nextcloud reports.

        Raises:
            UsageError: If the session is over, another room is joined, or an
                internal client gives a Nextcloud session id.
        """
        if self.close_expected():
            raise UsageError("the session is over")
        self._rooms.join(room_token, nc_session_id, in_call)
        if self._phase is Phase.READY:
            self._rooms.request(now)

    def leave(self) -> None:
        """Leave the room; does nothing if in none."""
        self._events += self._rooms.leave(ready=self._phase is Phase.READY)

    def send(self, message: Message, *, now: float, keep_s: float = 0.0) -> str:
        """Send a message; silence of the server means success.

        Args:
            message: A `DataMessage`, `Control`, `InternalMessage` or
                `TransientMessage` without id.
            now: Monotonic seconds.
            keep_s: How long it may wait for a connection, seconds. A message
                that could not be sent in time becomes a `RequestErrored` event
                with code `not_connected`.

        Returns:
            The request id; a later `RequestErrored` event may carry it.

        Raises:
            UsageError: If the message cannot be JSON, or is larger than the
                server allows (64 KiB).
        """
        if self._phase is Phase.READY and not self._close_requested:
            request_id, given_up = self._outbox.submit(message, now + keep_s)
        elif keep_s > 0 and not self.close_expected():
            request_id, given_up = self._outbox.keep(message, now + keep_s)
        else:
            request_id = self._outbox.number(message).id or ""
            given_up = [request_id]
        self._give_up(given_up)
        return request_id

    def retry_now(self, now: float) -> None:
        """Try again without waiting: a person asked, or a setting changed."""
        self._attempts.retry_now(now)
        self._rooms.retry_now(now)

    def bye(self, now: float) -> None:
        """End the session for good."""
        if self.close_expected():
            return
        self._move("goodbye")
        if self._phase is Phase.CLOSING:
            self._outbox.post(Bye())
            self._deadline = now + self._options.bye_timeout_s
        else:
            self._end(None)

    # Collect: what the shell does next.

    def messages_to_send(self, limit: int | None = None) -> list[str]:
        """Return the frames to send, once.

        Args:
            limit: At most so many, the oldest. What the shell has not taken when
                the socket breaks is kept for the next one, or reported.
        """
        return self._outbox.collect(limit)

    def events(self) -> list[SessionEvent]:
        """Return what happened, once."""
        events, self._events = self._events, []
        return events

    # Time.

    def deadline(self) -> float | None:
        """Return when `tick` must be called next; None if never."""
        due = [self._deadline, self._outbox.deadline()]
        if self._phase is Phase.DISCONNECTED:
            due.append(self._attempts.deadline())
        if self._phase is Phase.READY:
            due.append(self._rooms.deadline())
        return min((moment for moment in due if moment is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due. Send `messages_to_send`, look at `events` next."""
        self._give_up(self._outbox.expire(now))
        if self._deadline is not None and self._deadline <= now:
            if self._phase is Phase.CLOSING:
                self._end(None)
            else:
                error = RequestTimeout(
                    "opening a session", self._options.hello_timeout_s
                )
                self._hang_up(error, now)
        if self._phase is Phase.READY:
            self._rooms.tick(now)

    # Inside.

    def _move(self, event: str) -> None:
        phase = next_phase(self._phase, event)
        if phase is not self._phase:
            _log.debug("= %s -> %s (%s)", self._phase.value, phase.value, event)
        self._phase = phase

    def _give_up(self, request_ids: list[str]) -> None:
        for request_id in request_ids:
            error = RequestFailed("not_connected", "no connection in time")
            self._events.append(RequestErrored(request_id=request_id, error=error))

    def _hang_up(
        self, error: SignalingError, now: float, delay: float | None = None
    ) -> None:
        self._deadline = None
        self._close_requested = True
        self._events.append(self._attempts.plan(error, now, delay))

    def _end(self, error: SignalingError | None) -> None:
        self._move("ended")
        self._attempts.error = error
        self._close_requested = True
        self._deadline = None
        self._give_up(self._outbox.drop_frames() + self._outbox.drop_all())
        self._events += self._rooms.session_ended(error)
        self._events.append(SessionFinished(error=error))

    def _dispatch(self, message: Message, now: float) -> None:
        match message:
            case Welcome():
                self._handshake.receive_welcome(message)
            case HelloReply():
                self._receive_hello(message, now)
            case ErrorMessage():
                self._receive_error(message, now)
            case RoomMessage():
                self._events += self._rooms.receive(message)
            case Bye():
                self._receive_bye(message, now)
            case Event():
                self._receive_event(message)
            case _:
                self._events.append(interpret_message(message))

    def _receive_hello(self, reply: HelloReply, now: float) -> None:
        if self._phase is not Phase.HELLO or not reply.session_id:
            return
        self._move("hello accepted")
        self._deadline = None
        self._attempts.succeeded(now)
        if self._handshake.accept(reply):
            self._events.append(SessionResumed(session_id=reply.session_id))
            self._rooms.session_resumed(now)
        else:
            self._start_session(reply, now)
        self._give_up(self._outbox.expire(now))
        self._outbox.post_kept()

    def _start_session(self, reply: HelloReply, now: float) -> None:
        self._events += self._rooms.session_started()
        version = None if reply.server is None else reply.server.version
        self._events.append(
            SessionStarted(
                session_id=reply.session_id or "",
                server_version=version or "unknown",
                features=self.features,
            )
        )
        self._rooms.request(now)

    def _receive_error(self, message: ErrorMessage, now: float) -> None:
        if self._phase is Phase.HELLO:
            # Errors of this phase may come without id: nothing else was asked.
            self._hello_refused(message, now)
            return
        about_room = self._rooms.receive_error(message, now)
        if about_room is not None:
            self._events += about_room
            return
        error = RequestFailed(
            message.code or "unknown", message.message or "", message.details
        )
        self._events.append(RequestErrored(request_id=message.id or "", error=error))

    def _hello_refused(self, message: ErrorMessage, now: float) -> None:
        code = message.code or "unknown"
        if self._handshake.must_begin_anew(code):
            # The server allows 2 s for this, on the same socket.
            self._handshake.begin_anew(self._outbox)
            self._deadline = now + self._options.hello_timeout_s
            return
        error = hello_error(
            code, message.message or "", message.details, internal=self._auth.internal
        )
        delay = self._handshake.pause(error, self._attempts.delays)
        if delay is None:
            self._end(error)
        else:
            self._hang_up(error, now, delay)

    def _receive_bye(self, message: Bye, now: float) -> None:
        if self._phase is Phase.CLOSING:
            self._end(None)
        elif message.reason in ("session_resumed", "room_session_reconnected"):
            self._end(SessionEnded(message.reason))
        else:
            # The session is gone, but nothing forbids a new one.
            self._handshake.forget()
            error = ConnectionLost(f"goodbye of the server ({message.reason})")
            self._hang_up(error, now)

    def _receive_event(self, message: Event) -> None:
        facts = self._rooms.receive_event(message)
        if facts is None:
            self._end(SessionEnded("removed from the room"))
        else:
            self._events += facts
