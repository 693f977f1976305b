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
    HelloRefused,
    RequestFailed,
    SessionEnded,
    SignalingError,
    TooManyAttempts,
    UsageError,
    hello_error,
)
from ..types import InCallFlags
from ._inbound import interpret_event
from .auth import Auth
from .backoff import ReconnectDelays
from .events import (
    ControlReceived,
    DataReceived,
    Disconnected,
    RequestErrored,
    RoomLeft,
    RoomUpdated,
    SessionEvent,
    SessionFinished,
    SessionResumed,
    SessionStarted,
    UnhandledMessage,
)
from .membership import Membership
from .messages import (
    Bye,
    ClientHello,
    Control,
    DataMessage,
    ErrorMessage,
    HelloReply,
    Message,
    Party,
    RoomMessage,
    Welcome,
)
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
        self._phase = Phase.DISCONNECTED
        self._delays = ReconnectDelays(jitter)
        # Due at once, whatever the clock shows.
        self._retry_at: float | None = float("-inf")
        self._error: SignalingError | None = None
        self._hello_id: str | None = None
        self._resuming = False
        self._resume_id: str | None = None
        self._session_id: str | None = None
        self._lost_at: float | None = None
        self._deadline: float | None = None
        self._close_requested = False
        self._features: frozenset[str] = frozenset()
        self._membership: Membership | None = None
        self._outbox = Outbox(self._options.queue_limit)
        self._events: list[SessionEvent] = []
        self._roster = Roster()

    # State.

    @property
    def session_id(self) -> str | None:
        """Our public session id; None before the first hello was answered."""
        return self._session_id

    @property
    def features(self) -> frozenset[str]:
        """What the server announced in its answer to the hello."""
        return self._features

    @property
    def roster(self) -> Roster:
        """Who else is in the room; read only."""
        return self._roster

    def status(self) -> SessionStatus:
        """Return a snapshot for people."""
        member = self._membership
        ready = self._phase is Phase.READY
        waiting = self._phase is Phase.DISCONNECTED
        return SessionStatus(
            phase=self._phase,
            room_token=None if member is None else member.room_token,
            in_room=ready and member is not None and member.joined,
            error=self._error or (None if member is None else member.error),
            retry_at=self._retry_at if waiting else None,
        )

    def wants_connection(self, now: float) -> bool:
        """Whether the shell should open a socket now."""
        due = self._retry_at is not None and now >= self._retry_at
        return self._phase is Phase.DISCONNECTED and due

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
        self._retry_at = None
        self._close_requested = False
        window = self._options.resume_window_s
        if (
            self._resume_id is None
            or self._lost_at is None
            or now - self._lost_at > window
        ):
            self._send_hello(now)
            return
        self._resuming = True
        hello = ClientHello(version="1.0", resume_id=self._resume_id)
        # The server may have lost its keys: an id is not tried twice per outage.
        self._resume_id = None
        self._hello_id = self._outbox.post(hello)
        self._deadline = now + self._options.hello_timeout_s

    def connection_lost(self, error: SignalingError, now: float) -> None:
        """The socket ended or could not be opened. Look at `events` next."""
        if self._phase is Phase.READY:
            self._lost_at = now
        # A refused hello was reported and planned when it was refused.
        planned = self._close_requested and self._retry_at is not None
        was_closing = self._phase is Phase.CLOSING
        self._move("connection lost")
        self._deadline = None
        self._close_requested = False
        self._outbox.drop_frames()
        if self._membership is not None:
            self._membership.connection_lost()
        if was_closing:
            self._events.append(SessionFinished(error=None))
        elif self._phase is Phase.DISCONNECTED and not planned:
            self._plan_retry(error, self._delays.next(), now)

    def receive(self, text: str | bytes, now: float) -> None:
        """A text frame arrived. Send `messages_to_send`, look at `events` next."""
        if self._phase in (Phase.DISCONNECTED, Phase.FINISHED):
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
        if self._membership is not None:
            raise UsageError("leave the current room before joining another")
        if self._auth.internal and nc_session_id is not None:
            raise UsageError("internal clients join without a Nextcloud session id")
        flags = in_call if self._auth.internal else None
        self._membership = Membership(
            room_token, nc_session_id, flags, self._options.join_timeout_s
        )
        if self._phase is Phase.READY:
            self._membership.request(self._outbox, self._features, now)

    def leave(self) -> None:
        """Leave the room; does nothing if in none."""
        member = self._membership
        if member is None:
            return
        if self._phase is Phase.READY:
            self._outbox.post(RoomMessage(room_token=""))
        self._out_of_room(RoomLeft(room_token=member.room_token))

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
        """
        if self._phase is Phase.READY:
            return self._outbox.post(message)
        numbered = self._outbox.number(message)
        if keep_s <= 0 or self.close_expected():
            self._give_up([numbered])
        else:
            self._give_up(self._outbox.keep(numbered, now + keep_s))
        return numbered.id or ""

    def retry_now(self, now: float) -> None:
        """Try again without waiting: a person asked, or a setting changed."""
        if self._phase is Phase.DISCONNECTED:
            self._retry_at = now
        if self._membership is not None:
            self._membership.retry_now(now)

    def bye(self, now: float) -> None:
        """End the session for good."""
        before = self._phase
        if before is Phase.READY:
            self._outbox.post(Bye())
            self._deadline = now + self._options.bye_timeout_s
        self._move("goodbye")
        self._give_up(self._outbox.drop_all())
        if self._phase is Phase.FINISHED and before is not Phase.FINISHED:
            self._close_requested = True
            self._events.append(SessionFinished(error=None))

    # Collect: what the shell does next.

    def messages_to_send(self) -> list[str]:
        """Return the frames to send, once."""
        return self._outbox.collect()

    def events(self) -> list[SessionEvent]:
        """Return what happened, once."""
        events, self._events = self._events, []
        return events

    # Time.

    def deadline(self) -> float | None:
        """Return when `tick` must be called next; None if never."""
        due = [self._deadline, self._outbox.deadline()]
        if self._phase is Phase.DISCONNECTED:
            due.append(self._retry_at)
        if self._membership is not None and self._phase is Phase.READY:
            due.append(self._membership.deadline())
        return min((moment for moment in due if moment is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due. Send `messages_to_send`, look at `events` next."""
        self._give_up(self._outbox.expire(now))
        if self._deadline is not None and self._deadline <= now:
            self._deadline = None
            self._close_requested = True
            if self._phase is Phase.CLOSING:
                self._finish(None)
        if self._membership is not None and self._phase is Phase.READY:
            self._membership.tick(self._outbox, self._features, now)

    # Inside.

    def _move(self, event: str) -> None:
        phase = next_phase(self._phase, event)
        if phase is not self._phase:
            _log.debug("= %s -> %s (%s)", self._phase.value, phase.value, event)
        self._phase = phase

    def _send_hello(self, now: float) -> None:
        self._resuming = False
        hello = ClientHello(
            version=self._auth.version,
            features=tuple(self._auth.features) or None,
            auth=self._auth.hello_auth(),
        )
        self._hello_id = self._outbox.post(hello)
        self._deadline = now + self._options.hello_timeout_s

    def _give_up(self, messages: list[Message]) -> None:
        for message in messages:
            error = RequestFailed("not_connected", "no connection in time")
            self._events.append(
                RequestErrored(request_id=message.id or "", error=error)
            )

    def _plan_retry(self, error: SignalingError, delay: float, now: float) -> None:
        self._error = error
        self._retry_at = now + delay
        self._events.append(Disconnected(error=error, retry_in_s=delay))

    def _finish(self, error: SignalingError | None) -> None:
        self._move("ended")
        self._error = error
        self._close_requested = True
        self._deadline = None
        self._give_up(self._outbox.drop_all())
        self._events.append(SessionFinished(error=error))

    def _dispatch(self, message: Message, now: float) -> None:
        match message:
            case Welcome():
                pass
            case HelloReply():
                self._receive_hello(message, now)
            case ErrorMessage():
                self._receive_error(message, now)
            case RoomMessage():
                self._receive_room(message)
            case Bye():
                self._receive_bye(message)
            case DataMessage():
                self._receive_data(message)
            case Control():
                sender = message.sender or Party()
                self._events.append(
                    ControlReceived(
                        sender_session_id=sender.session_id, data=message.data
                    )
                )
            case Event():
                self._receive_event(message)
            case _:
                _log.debug("< unhandled message of type %s", message.type)
                self._events.append(UnhandledMessage(message=message))

    def _receive_hello(self, reply: HelloReply, now: float) -> None:
        if self._phase is not Phase.HELLO or not reply.session_id:
            return
        self._move("hello accepted")
        self._deadline = None
        self._delays.reset()
        self._error = None
        resumed = self._resuming and reply.session_id == self._session_id
        if reply.server is not None and reply.server.features is not None:
            self._features = frozenset(reply.server.features)
        self._session_id = reply.session_id
        self._resume_id = reply.resume_id
        member = self._membership
        if resumed:
            self._events.append(SessionResumed(session_id=reply.session_id))
            # "Resuming sessions": the room is kept. Only a join whose answer was
            # lost with the old socket is repeated; `already_joined` is success.
            again = member is not None and not member.joined
        else:
            self._start_session(reply)
            again = member is not None
        if again and member is not None:
            member.request(self._outbox, self._features, now)
        self._outbox.post_kept()

    def _start_session(self, reply: HelloReply) -> None:
        self._events += self._roster.clear(reply.session_id)
        version = None if reply.server is None else reply.server.version
        self._events.append(
            SessionStarted(
                session_id=reply.session_id or "",
                server_version=version or "unknown",
                features=self._features,
            )
        )

    def _receive_error(self, message: ErrorMessage, now: float) -> None:
        if self._phase is Phase.HELLO:
            # Errors of this phase may come without id: nothing else was asked.
            self._hello_refused(message, now)
            return
        if message.id is not None and message.id == self._hello_id:
            return
        member = self._membership
        if member is not None and member.is_answered_by(message.id):
            for event in member.refuse(message, now):
                if isinstance(event, RoomLeft):
                    self._error = event.error
                    self._out_of_room(event)
                else:
                    self._events.append(event)
            return
        error = RequestFailed(
            message.code or "unknown", message.message or "", message.details
        )
        self._events.append(RequestErrored(request_id=message.id or "", error=error))

    def _hello_refused(self, message: ErrorMessage, now: float) -> None:
        code = message.code or "unknown"
        if code == "no_such_session" and self._resuming:
            self._send_hello(now)
            return
        error = hello_error(
            code, message.message or "", message.details, internal=self._auth.internal
        )
        if error.retryable:
            self._refuse(error, self._delays.next(), now)
        elif isinstance(error, TooManyAttempts):
            self._refuse(error, self._options.blocked_delay_s, now)
        elif self._auth.internal:
            # A wrong setting on either side: somebody will repair it.
            self._refuse(error, self._options.refused_delay_s, now)
        else:
            self._finish(error)

    def _refuse(self, error: HelloRefused, delay: float, now: float) -> None:
        self._deadline = None
        self._close_requested = True
        self._plan_retry(error, delay, now)

    def _receive_room(self, message: RoomMessage) -> None:
        member = self._membership
        if member is None:
            return
        if message.room_token == member.room_token:
            if member.is_answered_by(message.id):
                self._error = None
                self._events += member.accept(message.properties)
            else:
                self._events.append(
                    RoomUpdated(
                        room_token=member.room_token,
                        properties=message.properties or {},
                    )
                )
        elif message.room_token == "" and member.joined:
            # Pushed: we were put out, or the room was deleted.
            self._out_of_room(RoomLeft(room_token=member.room_token))

    def _out_of_room(self, event: RoomLeft) -> None:
        self._membership = None
        self._events += self._roster.clear(self._session_id)
        self._events.append(event)

    def _receive_bye(self, message: Bye) -> None:
        if self._phase is Phase.CLOSING:
            self._finish(None)
        elif message.reason in ("session_resumed", "room_session_reconnected"):
            self._finish(SessionEnded(message.reason))
        else:
            # The session is gone, but nothing forbids a new one.
            self._resume_id = None
            self._close_requested = True

    def _receive_data(self, message: DataMessage) -> None:
        sender = message.sender or Party()
        self._events.append(
            DataReceived(
                sender_session_id=sender.session_id,
                sender_user_id=sender.user_id,
                data=message.data,
            )
        )

    def _receive_event(self, message: Event) -> None:
        member = self._membership
        room_token = None if member is None else member.room_token
        facts = interpret_event(message, self._roster, room_token)
        if facts is None:
            self._finish(SessionEnded("removed from the room"))
        else:
            self._events += facts
