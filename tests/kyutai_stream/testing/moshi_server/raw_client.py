"""A bare client: websockets and msgpack, nothing of the library under test.

`scripted` alone is for the server's side.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgpack
import numpy as np
import numpy.typing as npt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from kyutai_stream.testing import HeardWord, speak
from kyutai_stream.testing.moshi_server import ScriptedRecogniser

Samples = npt.NDArray[np.float32]
Message = dict[str, Any]
FRAME = 1920


def audio(samples: Iterable[float]) -> bytes:
    packed: bytes = msgpack.packb(
        {"type": "Audio", "pcm": [float(sample) for sample in samples]},
        use_single_float=True,
    )
    return packed


SILENCE = audio(np.zeros(FRAME))


def frames(samples: Samples) -> list[bytes]:
    padded = np.pad(samples, (0, -len(samples) % FRAME))
    return [audio(padded[at : at + FRAME]) for at in range(0, len(padded), FRAME)]


class Client:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.log: list[Message] = []
        self.texts: list[str] = []
        self.garbage: list[bytes] = []

    async def send(self, *messages: bytes | Message) -> None:
        for message in messages:
            if isinstance(message, dict):
                message = msgpack.packb(message)
            await self.socket.send(message)

    async def next(self, timeout_s: float = 60) -> Message:
        """The next message; raises what websockets raises at the end."""
        with anyio.fail_after(timeout_s):
            while True:
                data = await self.socket.recv()
                if isinstance(data, str):
                    self.texts.append(data)
                    continue
                try:
                    message = msgpack.unpackb(data)
                except Exception:
                    message = None
                if not isinstance(message, dict):
                    self.garbage.append(data)
                    continue
                self.log.append(message)
                return message

    async def until(
        self, condition: Callable[[Message], bool], timeout_s: float = 60
    ) -> list[Message]:
        seen: list[Message] = []
        with anyio.fail_after(timeout_s):
            while not seen or not condition(seen[-1]):
                seen.append(await self.next())
        return seen

    async def steps(self, count: int) -> list[Message]:
        """Everything until this many steps have come."""
        return await self.until(lambda _: self.count("Step") >= count)

    async def rest(self) -> str:
        """Read to the end; returns how it ended, as `code` or "none"."""
        try:
            while True:
                await self.next()
        except ConnectionClosed as exc:
            return "none" if exc.rcvd is None else str(int(exc.rcvd.code))

    def count(self, kind: str) -> int:
        return sum(message["type"] == kind for message in self.log)

    def of(self, kind: str) -> list[Message]:
        return [message for message in self.log if message["type"] == kind]

    @property
    def words(self) -> list[str]:
        return [message["text"] for message in self.of("Word")]


@asynccontextmanager
async def client_of(
    url: str, *, key: str | None = "public_token", ready: bool = True, **options: Any
) -> AsyncGenerator[Client, None]:
    headers = {} if key is None else {"kyutai-api-key": key}
    options = {"compression": None, "ping_interval": None, "close_timeout": 1} | options
    async with connect(url, additional_headers=headers, **options) as socket:
        client = Client(socket)
        if ready:
            assert await client.next() == {"type": "Ready"}
        yield client


async def feed(client: Client, count: int) -> list[Message]:
    """So many frames of silence, and all that comes back for them."""
    wanted = client.count("Step") + count
    await client.send(*[SILENCE] * count)
    return await client.steps(wanted)


def scripted(*words: tuple[str, float]) -> ScriptedRecogniser:
    said = [HeardWord(text=text, start=at, end=at + 0.2) for text, at in words]
    return ScriptedRecogniser(said)


SPOKEN = speak("alpha bravo charlie delta echo foxtrot golf hotel", tail_s=1.0)
FRAMES = frames(SPOKEN.samples)


async def say(client: Client, *, wait: bool = True) -> None:
    await client.send(*FRAMES)
    if wait:
        await client.steps(len(FRAMES))
