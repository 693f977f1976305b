# SPDX-License-Identifier: MIT
"""A wire to a server on this machine that can be cut or frozen.

The real server cannot be told to drop one connection at a chosen frame; the wire
in front of it can.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable

import anyio
from anyio.abc import SocketAttribute, SocketStream

__all__ = ["FRAME_BYTES", "Link", "open_link"]

FRAME_BYTES = 9619 + 8
"""One frame of audio: MessagePack with single floats, and the WebSocket header."""

_CHUNK = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@contextlib.asynccontextmanager
async def open_link(port: int) -> AsyncIterator[Link]:
    """Forward connections from a port of its own to a server on this machine.

        async with RealMoshiServer() as server, open_link(server.port) as link:
            backend = MoshiServerBackend(url=link.url_of(server.url))
            link.cut_after_frames(17)

    Args:
        port: TCP port of the server on 127.0.0.1.
    """
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        link = Link(port, listener.extra(SocketAttribute.local_port))
        tasks.start_soon(listener.serve, link.forward)
        yield link
        tasks.cancel_scope.cancel()


class Link:
    """A wire that can be cut or frozen; see `open_link`."""

    def __init__(self, port: int, own_port: int) -> None:
        self.connections = 0
        """Connections so far."""
        self._target = port
        self._limits: list[int] = []
        self._cuts: dict[int, Callable[[], None]] = {}
        self._flowing = anyio.Event()
        self._flowing.set()
        self._own_port = own_port

    def url_of(self, url: str) -> str:
        """Return the server's address with this wire's port."""
        return url.replace(f":{self._target}", f":{self._own_port}", 1)

    def cut_after_frames(self, *frames: int) -> None:
        """Cut the next connection, the one after it … after so many frames.

        Frames are counted by their bytes from the client, so a ping or a flush may
        shift it by a little.
        """
        self._limits += [count * FRAME_BYTES for count in frames]

    def cut(self) -> None:
        """Reset all connections, both ways."""
        for cut in list(self._cuts.values()):
            cut()

    def freeze(self) -> None:
        """Forward nothing any more, and say nothing about it: half-open."""
        self._flowing = anyio.Event()

    def thaw(self) -> None:
        """Forward again what came meanwhile."""
        self._flowing.set()

    async def forward(self, client: SocketStream) -> None:
        """Forward one connection to its end."""
        self.connections += 1
        number = self.connections
        limit = self._limits.pop(0) if self._limits else None
        async with client:
            try:
                server = await anyio.connect_tcp("127.0.0.1", self._target)
            except OSError:
                _reset_on_close(client)
                return
            async with server, anyio.create_task_group() as tasks:

                def cut() -> None:
                    _reset_on_close(client)
                    _reset_on_close(server)
                    tasks.cancel_scope.cancel()

                self._cuts[number] = cut
                try:
                    tasks.start_soon(self._pump, server, client, None, cut)
                    await self._pump(client, server, limit, cut)
                finally:
                    del self._cuts[number]

    async def _pump(
        self,
        source: SocketStream,
        sink: SocketStream,
        limit: int | None,
        cut: Callable[[], None],
    ) -> None:
        """Copy until the end; `limit` counts the bytes behind the request."""
        passed = 0
        head = b""
        try:
            while True:
                data = await source.receive(_CHUNK)
                await self._flowing.wait()
                if b"\r\n\r\n" in head:
                    passed += len(data)
                elif limit is not None:
                    head += data
                    passed = len(head.partition(b"\r\n\r\n")[2])
                if limit is not None and passed and passed >= limit:
                    await sink.send(data[: len(data) - (passed - limit)])
                    cut()
                    return
                await sink.send(data)
        except anyio.EndOfStream:
            # A polite end: the other direction may still have something to say.
            with contextlib.suppress(OSError, anyio.BrokenResourceError):
                await sink.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            cut()


def _reset_on_close(stream: SocketStream) -> None:
    raw = stream.extra(SocketAttribute.raw_socket)
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
