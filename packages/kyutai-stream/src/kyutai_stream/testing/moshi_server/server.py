# SPDX-License-Identifier: MIT
"""`FakeMoshiServer`: the fake on a real socket."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from types import TracebackType
from urllib.parse import parse_qs, urlsplit
from weakref import WeakSet

import anyio
import anyio.lowlevel
from attrs import evolve
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from ..tones import ToneRecogniser
from ._engine import Engine
from ._pages import BUILD_INFO, Metrics, modules_info
from .connection import FakeConnection, WatchedConnection
from .options import STEP_S, STT_1B, ConnectionPlan, Model, Recogniser, Timers

__all__ = ["FakeMoshiServer"]

HOST = "127.0.0.1"
KEY_HEADER = "kyutai-api-key"


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
        self._plans = list(plans)
        self._later = later or ConnectionPlan()
        self._listen = listen
        self._speed = speed
        self._keys = frozenset(keys)
        self._timers = timers or Timers()
        self._keep_audio = keep_audio
        self._path = path
        self._port = port
        # Whose sockets are not closed yet.
        self._live: set[FakeConnection] = set()
        self._sockets: WeakSet[WatchedConnection] = WeakSet()
        self._metrics = Metrics()
        self._engine = self._new_engine()
        self._wake = anyio.Event()
        self._news = anyio.Event()
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
        return f"ws://{HOST}:{self._port}{self._path}"

    @property
    def http_url(self) -> str:
        """Address for `/api/modules_info`, `/api/build_info` and `/metrics`."""
        return f"http://{HOST}:{self._port}"

    @property
    def used_slots(self) -> int:
        """Slots that are taken."""
        return self._engine.used_slots

    @property
    def total_steps(self) -> int:
        """Steps of the model loop since the last (re)start."""
        return self._engine.total_steps

    @property
    def speed(self) -> float:
        """How much faster than speech it works; may be set at any time."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        self._speed = speed
        self._engine.step_s = _step_s(speed)

    # What can be done to it, at any time

    def plan_next(self, *plans: ConnectionPlan) -> None:
        """Decide about the next connections, after those planned already."""
        self._plans.extend(plans)

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
        self._engine.dead = True
        await anyio.sleep(down_s)
        self._engine = self._new_engine()
        await self.start_listening()

    def wedge(self) -> None:
        """Let the model loop die: port and pages stay, slots fill, no Ready ever."""
        self._engine.dead = True

    def stall(self) -> None:
        """Let the model loop stand still; nothing is lost."""
        self._engine.stalled = True

    def resume(self) -> None:
        """Let a stalled model loop go on."""
        self._engine.resume(anyio.current_time())
        self._changed()

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
            while not condition():
                await self._news.wait()

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
            tasks.start_soon(self._model_loop)
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

    async def _model_loop(self) -> None:
        while True:
            deadline = self._engine.deadline()
            if deadline is not None and deadline <= anyio.current_time():
                await anyio.lowlevel.checkpoint()
            else:
                with anyio.CancelScope(
                    deadline=math.inf if deadline is None else deadline
                ):
                    await self._wake.wait()
                    self._wake = anyio.Event()
            engine = self._engine
            steps = engine.total_steps
            if engine.tick(anyio.current_time()):
                for connection in self._live:
                    connection.deliver()
                self._tell()
            if engine.total_steps > steps:
                self._metrics.step_durations.observe(engine.step_s)

    def _changed(self) -> None:
        self._wake.set()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    def _new_engine(self) -> Engine:
        return Engine(
            self.model,
            self._listen,
            step_s=_step_s(self._speed),
            idle_turn_s=self._timers.idle_turn_s,
        )

    async def _answer(
        self, socket: ServerConnection, request: Request
    ) -> Response | None:
        """Pages, credentials and planned refusals, before the handshake."""
        if not isinstance(socket, WatchedConnection):
            raise AssertionError("made by create_connection")
        self._sockets.add(socket)
        target = urlsplit(request.path)
        page = self._page(target.path)
        if page is not None:
            return _as_page(socket, *page)
        if target.path != self._path:
            self.refused += 1
            return socket.respond(HTTPStatus.NOT_FOUND, "")
        plan = self._next_plan()
        if plan.accept_delay_s:
            await anyio.sleep(plan.accept_delay_s)
        if plan.status is not None:
            self.refused += 1
            return socket.respond(HTTPStatus(plan.status), "")
        # A header that is there wins, even if it is wrong.
        query = parse_qs(target.query).get("auth_id", [""])[-1]
        key = request.headers.get(KEY_HEADER, query)
        if key not in self._keys:
            self.refused += 1
            return socket.respond(HTTPStatus.UNAUTHORIZED, "")
        socket.plan = plan
        return None

    def _next_plan(self) -> ConnectionPlan:
        return self._plans.pop(0) if self._plans else self._later

    async def _serve(self, socket: ServerConnection) -> None:
        if not isinstance(socket, WatchedConnection):
            raise AssertionError("made by create_connection")
        python = self.model.module == "PyBatchedAsr"
        timers = self._timers
        silent_s = timers.silent_s or (3 if python else 2) * timers.ping_s
        connection = FakeConnection(
            len(self.connections),
            evolve(socket.plan, full=True) if self.full else socket.plan,
            socket,
            self._engine,
            self._changed,
            keep_audio=self._keep_audio,
            timers=(timers.ping_s, silent_s, timers.binary_s),
        )
        self.connections.append(connection)
        self._metrics.connects += 1
        self._live.add(connection)
        self._tell()
        try:
            await connection.run()
        finally:
            self._live.discard(connection)
        self._metrics.lengths.observe(connection.steps)
        self._tell()

    def _page(self, path: str) -> tuple[str, str] | None:
        match path:
            case "/api/build_info":
                return "application/json", BUILD_INFO
            case "/api/modules_info":
                body = modules_info(self.model, self._path, self.used_slots)
                return "application/json", body
            case "/metrics":
                return "text/plain; version=0.0.4", self._metrics.text(self.used_slots)
        return None


def _as_page(socket: ServerConnection, kind: str, body: str) -> Response:
    response = socket.respond(HTTPStatus.OK, body)
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = kind
    return response


def _step_s(speed: float) -> float:
    if speed <= 0:
        raise ValueError("the speed must be positive; `stall` stops the model loop")
    return STEP_S / speed
