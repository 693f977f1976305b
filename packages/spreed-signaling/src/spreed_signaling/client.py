# SPDX-License-Identifier: MIT
"""Sessions for applications: `connect`, `Client` and `Room`.

A client stays itself while sockets come and go: reconnecting is a state that
`Client.status` tells about, not an error that ends it. Everything here belongs to
one event loop; methods without `await` never block.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from attrs import field, frozen
from websockets.asyncio.client import ClientConnection

from ._events import EventStream
from ._tasks import Signal, open_task_group
from .connection import (
    TransportOptions,
    close_connection,
    drive,
    open_connection,
    websocket_url,
)
from .errors import ConnectFailed, RequestTimeout, SessionEnded, SignalingError
from .protocol.auth import Auth
from .protocol.events import RoomLeft
from .protocol.messages import DataMessage, Message, Party
from .protocol.phases import Phase, SessionOptions, SessionStatus
from .protocol.session import SignalingSession
from .types import InCallFlags, Participant

__all__ = ["Client", "ClientOptions", "Room", "connect"]

_GOODBYE_S = 2.0
"""Leaving is not worth waiting longer; the server ends silent sessions itself."""

_CONNECTING_TICK_S = 0.5
"""While a socket opens, messages that wait expire with this precision."""


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
        tasks.start_soon(client._run)
        try:
            if wait_s is not None:
                await client.wait_ready(wait_s)
            yield client
        finally:
            await client._goodbye()


class Client:
    """One session with the signaling server; made by `connect`."""

    def __init__(self, url: str, auth: Auth, options: ClientOptions) -> None:
        self._url = url
        self._options = options
        self._session = SignalingSession(auth, options.session)
        self._wake = Signal()
        self._streams: set[EventStream] = set()
        self._changed = anyio.Event()
        self._seen_phase = Phase.DISCONNECTED
        self._room: Room | None = None
        self._finished = anyio.Event()
        # Shielded: cancelling the application must not cut off its goodbye.
        self._running = anyio.CancelScope(shield=True)

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

        Use it as a context manager; each stream has one consumer. It ends with
        the session, and raises `EventsLagged` if its consumer is too slow.
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

        Raises:
            UsageError: If the message cannot be JSON or is larger than 64 KiB.
        """
        now = anyio.current_time()
        request_id = self._session.send(message, now=now, keep_s=keep_s)
        self._wake.set()
        if self._finished.is_set():
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
        self._wake.set()
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
                self._wake.set()

    # The shell.

    async def _run(self) -> None:
        session = self._session
        try:
            with self._running:
                while session.status().phase is not Phase.FINISHED:
                    if session.wants_connection(anyio.current_time()):
                        await self._use_one_connection()
                    else:
                        await self._wake.wait(session.deadline())
                        session.tick(anyio.current_time())
                    self._deliver()
        finally:
            self._finish()

    async def _use_one_connection(self) -> None:
        session = self._session
        try:
            websocket = await self._open()
        except SignalingError as exc:
            session.connection_lost(exc, anyio.current_time())
            return
        session.connection_opened(anyio.current_time())
        error = await drive(websocket, session, self._wake, self._deliver)
        session.connection_lost(error, anyio.current_time())

    async def _open(self) -> ClientConnection:
        websocket: ClientConnection | None = None
        try:
            async with open_task_group() as tasks:
                tasks.start_soon(self._keep_time)
                websocket = await open_connection(self._url, self._options.transport)
                tasks.cancel_scope.cancel()
        except BaseException:
            # Cancelled just after the socket had opened.
            if websocket is not None:
                await close_connection(websocket)
            raise
        return websocket

    async def _keep_time(self) -> None:
        while True:
            await anyio.sleep(_CONNECTING_TICK_S)
            self._session.tick(anyio.current_time())
            self._deliver()

    async def _goodbye(self) -> None:
        with anyio.CancelScope(shield=True):
            self._session.bye(anyio.current_time())
            self._wake.set()
            # Only an open session has somebody to say goodbye to: an attempt to
            # connect that is under way is simply given up.
            if self.status().phase is not Phase.FINISHED:
                with anyio.move_on_after(_GOODBYE_S):
                    await self._finished.wait()
            self._running.cancel()
        self._finish()

    def _finish(self) -> None:
        self._deliver()
        self._finished.set()
        for stream in list(self._streams):
            stream.end()

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
