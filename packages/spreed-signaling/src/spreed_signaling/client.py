# SPDX-License-Identifier: MIT
"""Sessions for applications: `connect`, `Client` and `Room`.

A client stays itself while sockets come and go: reconnecting is a state that
`Client.status` tells about, not an error that ends it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from attrs import field, frozen

from ._events import EventStream
from ._tasks import Signal, open_task_group
from .connection import TransportOptions, drive, open_connection, websocket_url
from .errors import ConnectionLost, RoomRefused, SessionEnded, SignalingError
from .protocol.auth import Auth
from .protocol.events import RoomLeft
from .protocol.messages import DataMessage, Message, Party
from .protocol.phases import Phase, SessionOptions, SessionStatus
from .protocol.session import SignalingSession
from .types import InCallFlags, Participant

__all__ = ["Client", "ClientOptions", "Room", "connect"]


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
        The client. Leaving the block says goodbye to the server (bounded to
        about two seconds, also when cancelled).

    Raises:
        UsageError: If `url` is none.
        ConnectFailed: If the server could not be reached within `wait_s`.
        HelloRefused: If the server refused us for good.
    """
    client = Client(
        websocket_url(url), auth, ClientOptions() if options is None else options
    )
    async with open_task_group() as tasks:
        tasks.start_soon(client._run)
        try:
            if wait_s is not None:
                await client.wait_ready(wait_s)
            yield client
        finally:
            with anyio.CancelScope(shield=True):
                await client._goodbye()
            tasks.cancel_scope.cancel()


class Client:
    """One session with the signaling server; made by `connect`."""

    def __init__(self, url: str, auth: Auth, options: ClientOptions) -> None:
        self._url = url
        self._options = options
        self._session = SignalingSession(auth, options.session)
        self._wake = Signal()
        self._streams: set[EventStream] = set()
        self._changed = anyio.Event()
        self._left: RoomLeft | None = None
        self._finished = anyio.Event()

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
        self._wake.set()

    def subscribe(self) -> EventStream:
        """Return a stream of everything that happens from now on.

        Use it as a context manager; each stream has one consumer.
        """
        stream = EventStream(self._options.event_limit, self._streams.discard)
        if self._finished.is_set():
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
        """
        now = anyio.current_time()
        request_id = self._session.send(message, now=now, keep_s=keep_s)
        self._wake.set()
        return request_id

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until the session is open.

        Cancellation-safe; any number of tasks may wait.

        Raises:
            SignalingError: The reason, if it is final or the time is over.
        """
        with anyio.move_on_after(timeout_s):
            while self.status().phase is not Phase.READY:
                error = self.status().error
                finished = self.status().phase is Phase.FINISHED
                if finished or (error is not None and not error.retryable):
                    raise error or ConnectionLost("the session is over")
                await self._changed.wait()
            return
        raise self.status().error or ConnectionLost("no answer in time")

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
            wait_s: Seconds until we must be in the room; None does not wait.

        Raises:
            UsageError: If another room is joined, or the session is over.
            RoomRefused: If the server does not let us in.
        """
        self._left = None
        now = anyio.current_time()
        self._session.join(
            room_token, now=now, nc_session_id=nc_session_id, in_call=in_call
        )
        self._wake.set()
        room = Room(self, room_token)
        try:
            if wait_s is not None:
                await room.wait_joined(wait_s)
            yield room
        finally:
            if self.status().room_token == room_token:
                self._session.leave()
                self._deliver()
                self._wake.set()

    # The shell.

    async def _run(self) -> None:
        session = self._session
        while session.status().phase is not Phase.FINISHED:
            now = anyio.current_time()
            if session.wants_connection(now):
                await self._use_one_connection()
            else:
                await self._wake.wait(session.deadline())
                session.tick(anyio.current_time())
            self._deliver()
        self._finished.set()
        for stream in list(self._streams):
            stream.end()

    async def _use_one_connection(self) -> None:
        session = self._session
        error: SignalingError
        try:
            websocket = await open_connection(self._url, self._options.transport)
        except SignalingError as exc:
            error = exc
        else:
            if session.close_expected():
                # Goodbye was said while the socket opened.
                await websocket.close()
                return
            session.connection_opened(anyio.current_time())
            error = await drive(websocket, session, self._wake, self._deliver)
        session.connection_lost(error, anyio.current_time())

    async def _goodbye(self) -> None:
        self._session.bye(anyio.current_time())
        self._wake.set()
        # An attempt to connect may be under way: do not wait for that.
        if self.status().phase is not Phase.FINISHED:
            with anyio.move_on_after(2.0):
                await self._finished.wait()
        self._deliver()
        self._finished.set()
        for stream in list(self._streams):
            stream.end()

    def _deliver(self) -> None:
        events = self._session.events()
        for event in events:
            if isinstance(event, RoomLeft):
                self._left = event
            for stream in list(self._streams):
                stream.put(event)
        if events:
            changed, self._changed = self._changed, anyio.Event()
            changed.set()


class Room:
    """A room we are in, or are trying to be in; made by `Client.join`."""

    def __init__(self, client: Client, room_token: str) -> None:
        self.client = client
        self.room_token = room_token

    def __repr__(self) -> str:
        return f"<Room {self.room_token} joined={self.joined}>"

    @property
    def joined(self) -> bool:
        """Whether we are in the room right now."""
        status = self.client.status()
        return status.in_room and status.room_token == self.room_token

    @property
    def participants(self) -> Mapping[str, Participant]:
        """Who else is in the room, by session id."""
        return self.client.participants

    def find_nc_session(self, nc_session_id: str) -> Participant | None:
        """Return who has this Nextcloud session id, if it is known yet."""
        return self.client._session.roster.find_nc_session(nc_session_id)

    def subscribe(self) -> EventStream:
        """Return a stream of everything that happens from now on."""
        return self.client.subscribe()

    def send_data(self, session_id: str, data: Any, *, keep_s: float = 10.0) -> str:
        """Send application data to one session; never blocks.

        Args:
            session_id: The recipient's HPB session id.
            data: Any JSON object. Its `type` must not be one of the server's
                own (`offer`, `answer`, `candidate`, `requestoffer` ...).
            keep_s: Seconds it may wait for a connection.

        Returns:
            The request id, see `Client.send`.
        """
        message = DataMessage(recipient=Party.session(session_id), data=data)
        return self.client.send(message, keep_s=keep_s)

    async def wait_joined(self, timeout_s: float) -> None:
        """Wait until we are in the room.

        Cancellation-safe; any number of tasks may wait.

        Raises:
            RoomRefused: If the server does not let us in, or did not in time.
            SignalingError: If the session is over.
        """
        client = self.client
        with anyio.move_on_after(timeout_s):
            while not self.joined:
                status = client.status()
                if client._left is not None:
                    raise client._left.error or SessionEnded("put out of the room")
                if status.phase is Phase.FINISHED:
                    raise status.error or SessionEnded("the session is over")
                await client._changed.wait()
            return
        raise client.status().error or RoomRefused("timeout", "no answer in time")
