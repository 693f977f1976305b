"""What the tests of clients and media share: servers, links, people in a call."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
from anyio.abc import SocketStream, TaskGroup, TaskStatus

from spreed_signaling import Client, InternalAuth, SessionEvent
from spreed_signaling.testing import EmbeddedHpb, ServerKind, StandInNextcloud
from spreed_signaling.testing.real import RealServers

T = TypeVar("T", bound=SessionEvent)

ROOM = "demoroom"
SECRET = "the-internal-secret"


class Restartable:
    """A signaling server, of either kind, that tests stop and start at one port."""

    def __init__(self, nextcloud: StandInNextcloud, tasks: TaskGroup) -> None:
        self.nextcloud = nextcloud
        self.secret = SECRET
        self.url = ""
        self._tasks = tasks
        self._real: RealServers | None = None
        self._stopping = anyio.Event()
        self._stopped = anyio.Event()

    @property
    def bot_auth(self) -> InternalAuth:
        return InternalAuth(secret=SECRET, backend_url=self.nextcloud.url)

    async def start(self, secret: str | None = None) -> None:
        """Start it, with another internal secret if one is given."""
        self.secret = secret or self.secret
        if self._real is not None:
            await self._real.start_hpb(internal_secret=self.secret)
        else:
            await self._tasks.start(self._run_embedded)
        self.nextcloud.hpb_url = self.url

    async def stop(self) -> None:
        if self._real is not None:
            await self._real.stop_hpb()
            return
        self._stopping.set()
        await self._stopped.wait()

    async def _run_embedded(self, *, task_status: TaskStatus[None]) -> None:
        self._stopping, self._stopped = anyio.Event(), anyio.Event()
        async with EmbeddedHpb(
            backend_url=self.nextcloud.url,
            backend_secret=self.nextcloud.backend_secret,
            internal_secret=self.secret,
            port=urlsplit(self.url).port or 0,
        ) as hpb:
            self.url = hpb.url
            task_status.started()
            await self._stopping.wait()
        self._stopped.set()


@asynccontextmanager
async def open_restartable(
    kind: ServerKind, *, secret: str = SECRET
) -> AsyncIterator[Restartable]:
    """Run a server and a stand-in Nextcloud with the room `demoroom`."""
    async with StandInNextcloud() as nextcloud, anyio.create_task_group() as tasks:
        nextcloud.add_room(ROOM)
        server = Restartable(nextcloud, tasks)
        server.secret = secret
        if kind == "embedded":
            await server.start()
            yield server
        else:
            async with RealServers(
                backend_url=nextcloud.url,
                backend_secret=nextcloud.backend_secret,
                internal_secret=secret,
            ) as real:
                server._real, server.url = real, real.url
                nextcloud.hpb_url = real.url
                yield server
        tasks.cancel_scope.cancel()


class Link:
    """A TCP relay in front of a server, which can be cut, stopped or silenced."""

    def __init__(self, server_url: str, tasks: TaskGroup) -> None:
        self._target = urlsplit(server_url).port or 0
        self._tasks = tasks
        self._streams: set[SocketStream] = set()
        self._flowing = anyio.Event()
        self._flowing.set()
        self.refusing = False
        self.connections = 0
        self.url = ""

    async def serve(self, *, task_status: TaskStatus[None]) -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra_attributes[anyio.abc.SocketAttribute.local_port]()
            self.url = f"http://127.0.0.1:{port}"
            task_status.started()
            await listener.serve(self._relay)

    async def cut(self) -> None:
        """Cut every connection, as a broken network does."""
        for stream in list(self._streams):
            await stream.aclose()

    def silence(self) -> None:
        """Let no byte through any more, in either direction."""
        self._flowing = anyio.Event()

    def unsilence(self) -> None:
        self._flowing.set()

    async def _relay(self, near: SocketStream) -> None:
        if self.refusing:
            await near.aclose()
            return
        self.connections += 1
        async with near, await anyio.connect_tcp("127.0.0.1", self._target) as far:
            self._streams |= {near, far}
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._pipe, near, far, tasks)
                tasks.start_soon(self._pipe, far, near, tasks)
            self._streams -= {near, far}

    async def _pipe(
        self, source: SocketStream, sink: SocketStream, tasks: TaskGroup
    ) -> None:
        try:
            async for data in source:
                await self._flowing.wait()
                await sink.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def open_link(server_url: str) -> AsyncIterator[Link]:
    """Put a relay in front of a server."""
    async with anyio.create_task_group() as tasks:
        link = Link(server_url, tasks)
        await tasks.start(link.serve)
        yield link
        tasks.cancel_scope.cancel()


async def wait_until(
    client: Client, condition: Callable[[], object], timeout_s: float = 15.0
) -> None:
    """Wait until the condition holds; checked after every event of the client."""
    with client.subscribe() as events, anyio.fail_after(timeout_s):
        while not condition():
            await anext(events)


async def next_of(
    events: AsyncIterator[SessionEvent], kind: type[T], timeout_s: float = 15.0
) -> T:
    """Return the next event of this kind."""
    with anyio.fail_after(timeout_s):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"the stream ended without {kind.__name__}")


def free_port() -> int:
    """A port on which nobody listens right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def open_descriptors() -> set[str]:
    """What this process has open, such as `7 -> socket:[123]`."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(f"{entry.name} -> {entry.readlink()}")
    return found


@contextmanager
def no_leaks() -> Iterator[None]:
    """Check that no task, thread or descriptor outlives the block.

    Tasks need a turn of the loop to vanish, which is the block's business.
    """
    tasks, threads = asyncio.all_tasks(), threading.active_count()
    descriptors = open_descriptors()
    yield
    left = [
        task
        for task in asyncio.all_tasks() - tasks
        if task is not asyncio.current_task()
    ]
    assert not left, left
    assert threading.active_count() <= threads
    new = {one for one in open_descriptors() - descriptors if "/proc/" not in one}
    assert not new, new
