# SPDX-License-Identifier: MIT
"""`FakeMoshiServer`: the fake on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from urllib.parse import urlsplit
from weakref import WeakSet

import anyio
import anyio.lowlevel
from attrs import evolve
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from ..tones import ToneRecogniser
from ._door import Door
from ._limits import Limits
from ._loop import ModelLoop
from ._pages import BUILD_INFO, Metrics, as_page, modules_info
from ._path import WatchedConnection
from ._seat import Seat
from .connection import FakeConnection
from .options import STT_1B, ConnectionPlan, Model, Recogniser, Timers

__all__ = ["FakeMoshiServer"]

HOST = "127.0.0.1"


class FakeMoshiServer:
    """A moshi-server on loopback that hears tones, with every quirk of the real one.

    ```python
    async with FakeMoshiServer(speed=3.0) as server:
        await my_client(server.url)
        assert server.used_slots == 0
    ```

    All its time is the event loop's, so it runs in virtual time too. As with the
    real one its queues are unbounded both ways, and it never pushes back.

    Args:
        model: The configuration.
        listen: Makes the recogniser of each stream; tones by default.
        speed: Frames are processed this many times faster than they are spoken;
            below 1 the server cannot keep up, `math.inf` is as fast as possible.
            The real one reaches 2 to 3 on its usual hardware.
        plans: What shall go wrong on the first, second … connection.
        later: What shall go wrong on all after those.
        keys: Accepted `kyutai-api-key` values.
        timers: The server's time limits.
        keep_audio: Whether connections keep all samples that came in.
        path: Path of the stream.
        port: TCP port; 0 for a free one.
    """

    def __init__(
        self,
        model: Model = STT_1B,
        *,
        listen: Callable[[], Recogniser] = ToneRecogniser,
        speed: float = 3.0,
        plans: Sequence[ConnectionPlan] = (),
        later: ConnectionPlan | None = None,
        keys: Sequence[str] = ("public_token",),
        timers: Timers | None = None,
        keep_audio: bool = False,
        path: str = "/api/asr-streaming",
        port: int = 0,
    ) -> None:
        self.model = model
        """The configuration."""
        self.connections: list[FakeConnection] = []
        """All that were accepted, in order, ended ones included."""
        self.refused = 0
        """Handshakes refused: bad key, planned status, unknown path."""
        self.full = False
        """Answer every new connection with "no free channels"."""
        self._timers = timers or Timers()
        self._keep_audio = keep_audio
        self._port = port
        # Whose sockets are not closed yet.
        self._live: set[FakeConnection] = set()
        self._sockets: WeakSet[WatchedConnection] = WeakSet()
        self._metrics = Metrics()
        self._loop = ModelLoop(
            model,
            listen,
            speed=speed,
            idle_turn_s=self._timers.idle_turn_s,
            metrics=self._metrics,
        )
        self._door = Door(path, keys, plans, later)
        self._listener: Server | None = None
        self._running: AbstractAsyncContextManager[None] | None = None

    # Where it is and what it holds

    @property
    def port(self) -> int:
        """Its TCP port; stays the same over `restart`."""
        return self._port

    @property
    def url(self) -> str:
        """Address of the stream: `ws://127.0.0.1:PORT/api/asr-streaming`."""
        return f"ws://{HOST}:{self._port}{self._door.path}"

    @property
    def http_url(self) -> str:
        """Address for `/api/modules_info`, `/api/build_info` and `/metrics`."""
        return f"http://{HOST}:{self._port}"

    @property
    def used_slots(self) -> int:
        """Slots that are taken."""
        return self._loop.engine.used_slots

    @property
    def total_steps(self) -> int:
        """Steps of the model loop since the last (re)start."""
        return self._loop.engine.total_steps

    @property
    def speed(self) -> float:
        """How much faster than speech it works; may be set at any time."""
        return self._loop.speed

    @speed.setter
    def speed(self, speed: float) -> None:
        self._loop.speed = speed

    # What can be done to it, at any time

    def plan_next(self, *plans: ConnectionPlan) -> None:
        """Decide about the next connections, after those planned already."""
        self._door.plans.extend(plans)

    def cut_all(self) -> None:
        """Abort the TCP connections of all clients."""
        for connection in list(self._live):
            connection.cut()

    async def stop_listening(self) -> None:
        """Refuse new TCP connections; open ones go on."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        listener.close(close_connections=False)
        while listener.is_serving():
            await anyio.lowlevel.checkpoint()

    async def start_listening(self) -> None:
        """Take new connections, on the same port as before."""
        if self._listener is not None:
            return
        self._listener = await serve(
            self._serve,
            HOST,
            self._port,
            process_request=self._answer,
            create_connection=WatchedConnection,
            compression=None,
            open_timeout=None,
            ping_interval=None,
            close_timeout=1,
            max_size=None,
            max_queue=None,
        )
        self._port = next(iter(self._listener.sockets)).getsockname()[1]

    async def restart(self, down_s: float = 0.0) -> None:
        """Die and come back: all clients cut, port closed, then empty slots.

        Args:
            down_s: Seconds during which TCP connections are refused.
        """
        await self.stop_listening()
        self.cut_all()
        # Those still in their handshake, too.
        for socket in list(self._sockets):
            socket.transport.abort()
        self._loop.engine.dead = True
        await anyio.sleep(down_s)
        self._loop.renew()
        await self.start_listening()

    def wedge(self) -> None:
        """Let the model loop die: port and pages stay, slots fill, no Ready ever."""
        self._loop.engine.dead = True

    def stall(self) -> None:
        """Let the model loop stand still; nothing is lost."""
        self._loop.engine.stalled = True

    def resume(self) -> None:
        """Let a stalled model loop go on."""
        self._loop.engine.resume(anyio.current_time())
        self._loop.changed()

    async def wait_until(
        self, condition: Callable[[], bool], timeout_s: float = 10.0
    ) -> None:
        """Wait for something that the server's state tells.

        It is looked at whenever something may have changed:
        `await server.wait_until(lambda: server.used_slots == 0)`.

        Raises:
            TimeoutError: If it does not come true in time.
        """
        with anyio.fail_after(timeout_s):
            await self._loop.wait_until(condition)

    # Running

    async def __aenter__(self) -> FakeMoshiServer:
        running = self._run()
        await running.__aenter__()
        self._running = running
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._running is None:
            raise AssertionError("left without having been entered")
        running, self._running = self._running, None
        return await running.__aexit__(exc_type, exc, traceback)

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._loop.run, self._deliver)
            await self.start_listening()
            try:
                yield
            except Exception as exc:
                # Raised again outside of the group, which would wrap it.
                failure = exc
            finally:
                with anyio.CancelScope(shield=True):
                    await self._stop()
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _stop(self) -> None:
        listener = self._listener
        await self.stop_listening()
        for connection in list(self._live):
            connection.cut("the server ended")
        for socket in list(self._sockets):
            socket.transport.abort()
        if listener is not None:
            with anyio.move_on_after(5):
                await listener.wait_closed()

    def _deliver(self) -> None:
        for connection in self._live:
            connection.deliver()

    async def _answer(
        self, socket: ServerConnection, request: Request
    ) -> Response | None:
        watched = _watched(socket)
        self._sockets.add(watched)
        page = self._page(urlsplit(request.path).path)
        if page is not None:
            return as_page(watched, *page)
        refusal = await self._door.refusal(watched, request)
        if refusal is not None:
            self.refused += 1
        return refusal

    async def _serve(self, socket: ServerConnection) -> None:
        watched = _watched(socket)
        connection = FakeConnection(
            number=len(self.connections),
            plan=evolve(watched.plan, full=True) if self.full else watched.plan,
            socket=watched,
            seat=Seat(self._loop.engine, self._loop.changed),
            limits=Limits(self._timers, self.model, anyio.current_time()),
            keep_audio=self._keep_audio,
        )
        self.connections.append(connection)
        self._metrics.connects += 1
        self._live.add(connection)
        self._loop.tell()
        try:
            await connection.run()
        finally:
            self._live.discard(connection)
        self._metrics.lengths.observe(connection.steps)
        self._loop.tell()

    def _page(self, path: str) -> tuple[str, str] | None:
        match path:
            case "/api/build_info":
                return "application/json", BUILD_INFO
            case "/api/modules_info":
                body = modules_info(self.model, self._door.path, self.used_slots)
                return "application/json", body
            case "/metrics":
                return "text/plain; version=0.0.4", self._metrics.text(self.used_slots)
        return None


def _watched(socket: ServerConnection) -> WatchedConnection:
    if not isinstance(socket, WatchedConnection):
        raise AssertionError("made by create_connection")
    return socket
