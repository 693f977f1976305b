# SPDX-License-Identifier: MIT
"""A stream to a moshi-server, real or fake, without this library's own client.

For tests of the protocol itself: it speaks plain websockets and MessagePack, checks
nothing and keeps everything in order.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgpack
from websockets.asyncio.client import ClientConnection, connect

from ._script import Expected, ExpectedEnd, ExpectedWord
from ._tensors import Array

__all__ = ["RawStream", "open_raw"]

Message = dict[str, Any]

_FRAME = 1920


class RawStream:
    """One open stream.

    Args:
        socket: The WebSocket.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[Message] = []
        """All messages so far, in order."""
        self.said: list[Expected] = []
        """Words and ends since the last `Ready`, with the steps they came at."""
        self.steps = 0
        """`Step` messages since the last `Ready`."""

    async def send(self, kind: str, **fields: Any) -> None:
        """Send one message."""
        message = {"type": kind, **fields}
        await self.socket.send(msgpack.packb(message, use_single_float=True))

    async def audio(self, samples: Array, *, chunk: int = _FRAME) -> None:
        """Send audio in messages of `chunk` samples, all at once."""
        for start in range(0, len(samples), chunk):
            await self.send("Audio", pcm=samples[start : start + chunk].tolist())

    async def next(self, timeout_s: float = 30.0) -> Message:
        """Return the next message.

        Raises:
            TimeoutError: If none comes within `timeout_s` seconds.
        """
        with anyio.fail_after(timeout_s):
            message: Message = msgpack.unpackb(await self.socket.recv())
        self.messages.append(message)
        kind = message["type"]
        if kind == "Ready":
            self.steps, self.said = 0, []
        elif kind == "Step":
            self.steps += 1
        elif kind == "Word":
            text, start = message["text"], message["start_time"]
            self.said.append(ExpectedWord(step=self.steps, text=text, start=start))
        elif kind == "EndWord":
            self.said.append(ExpectedEnd(step=self.steps, stop=message["stop_time"]))
        return message

    async def until(self, kind: str, timeout_s: float = 30.0) -> Message:
        """Read up to the next message of a kind; the time counts anew for each."""
        while (message := await self.next(timeout_s))["type"] != kind:
            pass
        return message

    async def until_steps(self, steps: int, *, quiet_s: float = 0.3) -> None:
        """Read up to the `steps`-th `Step` since `Ready` and what belongs to it."""
        while self.steps < steps:
            await self.next()
        await self.drain(quiet_s)

    async def drain(self, quiet_s: float = 0.3) -> None:
        """Read until nothing has come for `quiet_s` seconds."""
        with contextlib.suppress(TimeoutError):
            while True:
                await self.next(quiet_s)


@contextlib.asynccontextmanager
async def open_raw(
    stream_url: str,
    key: str | None,
    *,
    ready: bool = True,
    ping_interval_s: float | None = 5.0,
) -> AsyncIterator[RawStream]:
    """Open a stream and close it politely.

    Args:
        stream_url: Address of the stream, with path.
        key: API key for the header, None for none.
        ready: Whether to wait for `Ready` first.
        ping_interval_s: Seconds between pings of ours; None sends none. The server
            stops reading who sent no frame for 20 s, and as long as it has
            something to say it sends no ping that would have to be answered.
    """
    headers = {} if key is None else {"kyutai-api-key": key}
    async with connect(
        stream_url,
        additional_headers=headers,
        compression=None,
        ping_interval=ping_interval_s,
        max_queue=None,
        ping_timeout=None,
        close_timeout=2.0,
    ) as socket:
        stream = RawStream(socket)
        if ready:
            await stream.until("Ready")
        yield stream
