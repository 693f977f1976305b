# SPDX-License-Identifier: MIT
"""A session as applications see it, and `connect`, which makes one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
from attrs import field, frozen

from .._events import EventStream
from .._tasks import open_task_group
from ..connection import TransportOptions, websocket_url
from ..errors import ConnectFailed, SessionEnded
from ..protocol.auth import Auth
from ..protocol.events import RoomLeft
from ..protocol.messages import Message
from ..protocol.phases import Phase, SessionOptions, SessionStatus
from ..protocol.session import SignalingSession
from ..types import InCallFlags, Participant
from ._room import Room
from ._shell import Shell

__all__ = ["Client", "ClientOptions", "connect"]


@frozen(kw_only=True)
class ClientOptions:
    """Settings of a client."""

    session: SessionOptions = field(factory=SessionOptions)
    transport: TransportOptions = field(factory=TransportOptions)
    event_limit: int = 1024
    """Events a subscriber may be behind before its stream ends with
    `EventsLagged`: no event is ever skipped silently."""


@asynccontextmanager
async def connect(
    url: str,
    auth: Auth,
    *,
    options: ClientOptions | None = None,
    wait_s: float | None = 30.0,
) -> AsyncIterator[Client]:
    """Open a session and keep it until the block is left.

    Args:
        url: The signaling server, `http(s)://` or `ws(s)://`, with or without
            `/spreed`.
        auth: `InternalAuth`, `TicketAuth` or `TokenAuth`.
        options: Times and limits.
        wait_s: Seconds until the session must be open; temporary trouble is
            tried again meanwhile. None enters the block at once and goes on
            trying in the background for ever.

    Yields:
        The client. Leaving the block says goodbye to the server, also when it is
        left by an error or by cancellation; that takes four seconds at most.

    Raises:
        UsageError: If `url` is none.
        ConnectFailed: If the server could not be reached within `wait_s`.
        ConnectionLost: If connections were opened but did not last.
        HelloRefused: If the server refused us, and trying again soon is no use.
        RequestTimeout: If the server did not answer our hello.
    """
    client = Client(
        websocket_url(url), auth, ClientOptions() if options is None else options
    )
    async with open_task_group() as tasks:
        tasks.start_soon(client._shell.run)
        try:
            if wait_s is not None:
                await client.wait_ready(wait_s)
            yield client
        finally:
            await client._shell.goodbye()


class Client:
    """One session with the signaling server; made by `connect`."""

    def __init__(self, url: str, auth: Auth, options: ClientOptions) -> None:
        self._url = url
        self._options = options
        self._session = SignalingSession(auth, options.session)
        self._shell = Shell(
            url,
            options.transport,
            self._session,
            deliver=self._deliver,
            end=self._end_streams,
        )
        self._streams: set[EventStream] = set()
        self._changed = anyio.Event()
        self._seen_phase = Phase.DISCONNECTED
        self._room: Room | None = None

    def __repr__(self) -> str:
        return f"<Client {self._url} {self._session.status().phase.value}>"

    @property
    def session_id(self) -> str | None:
        """Our public session id; None before the first hello was answered."""
        return self._session.session_id

    @property
    def features(self) -> frozenset[str]:
        """What the server can do."""
        return self._session.features

    @property
    def participants(self) -> Mapping[str, Participant]:
        """Who else is in the room, by session id."""
        return self._session.roster.participants

    def status(self) -> SessionStatus:
        """Return what works, and if not, why and until when."""
        return self._session.status()

    def retry_now(self) -> None:
        """Skip the pause before the next attempt: a person asked."""
        self._session.retry_now(anyio.current_time())
        self._shell.wake.set()

    def subscribe(self) -> EventStream:
        """Return a stream of everything that happens from now on.

        Use it as a context manager; each stream has one consumer. It ends with
        the session, and raises `EventsLagged` if its consumer is too slow.
        """
        stream = EventStream(self._options.event_limit, self._streams.discard)
        if self._shell.finished.is_set():
            stream.end()
        else:
            self._streams.add(stream)
        return stream

    def send(self, message: Message, *, keep_s: float = 0.0) -> str:
        """Send a message; never blocks.

        Args:
            message: A message without id.
            keep_s: Seconds it may wait for a connection. What cannot be sent in
                time becomes a `RequestErrored` event (`not_connected`).

        Returns:
            The request id. Silence means success; an error arrives as a
            `RequestErrored` event with this id, up to about 10 s later.

        Raises:
            UsageError: If the message cannot be JSON or is larger than 64 KiB.
        """
        now = anyio.current_time()
        request_id = self._session.send(message, now=now, keep_s=keep_s)
        self._shell.wake.set()
        if self._shell.finished.is_set():
            self._deliver()
        return request_id

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until the session is open.

        Cancellation-safe; any number of tasks may wait.

        Raises:
            SignalingError: The reason, as soon as trying again soon is no use, or
                when the time is over.
        """
        with anyio.move_on_after(timeout_s):
            while self.status().phase is not Phase.READY:
                self._raise_if_hopeless()
                await self._changed.wait()
            return
        late = ConnectFailed(self._url, f"no session within {timeout_s:g} s")
        raise self.status().error or late

    @asynccontextmanager
    async def join(
        self,
        room_token: str,
        *,
        nc_session_id: str | None = None,
        in_call: InCallFlags = InCallFlags.IN_CALL,
        wait_s: float | None = 30.0,
    ) -> AsyncIterator[Room]:
        """Be in a room until the block is left, across reconnects.

        Args:
            room_token: Talk's conversation token.
            nc_session_id: Our Nextcloud session id (users and guests only).
            in_call: Call flags of an internal client.
            wait_s: Seconds until we must be in the room; temporary trouble is
                tried again meanwhile. None enters the block at once.

        Yields:
            The room. Leaving the block leaves the room, also when cancelled.

        Raises:
            UsageError: If another room is joined, or the session is over.
            RoomRefused: If the server does not let us in.
            RequestTimeout: If the server did not answer in time.
            SignalingError: If there was no session; see `connect`.
        """
        now = anyio.current_time()
        self._session.join(
            room_token, now=now, nc_session_id=nc_session_id, in_call=in_call
        )
        self._shell.wake.set()
        room = self._room = Room(self, room_token)
        try:
            if wait_s is not None:
                await room.wait_joined(wait_s)
            yield room
        finally:
            # Otherwise we were put out, and may be in another room by now.
            if self._room is room:
                self._room = None
                self._session.leave()
                self._deliver()
                self._shell.wake.set()

    def _raise_if_hopeless(self) -> None:
        """Raise what makes waiting useless; nothing while an attempt is under way."""
        status = self.status()
        if status.phase is Phase.FINISHED:
            raise status.error or SessionEnded("we said goodbye")
        pausing = status.retry_at is not None and status.retry_at > anyio.current_time()
        if pausing and status.error is not None and not status.error.retryable:
            raise status.error

    def _deliver(self) -> None:
        events = self._session.events()
        for event in events:
            if isinstance(event, RoomLeft) and self._room is not None:
                self._room._left = event
                self._room = None
            for stream in list(self._streams):
                stream.put(event)
        phase = self.status().phase
        if events or phase is not self._seen_phase:
            self._seen_phase = phase
            changed, self._changed = self._changed, anyio.Event()
            changed.set()

    def _end_streams(self) -> None:
        for stream in list(self._streams):
            stream.end()
