# SPDX-License-Identifier: MIT
"""The cheapest thing that a gateway takes for a moshi-server; notes when frames came.

`python -m benchmarks._gateway_upstream` prints its address. When its standard input
ends it prints, as JSON, the loop times of all frames by their stream, and ends. It
looks at one sample of each frame only, so that it says little about itself.
"""

from __future__ import annotations

import json
import sys
import time

import anyio
import anyio.to_thread
import msgpack
import numpy as np
import numpy.typing as npt
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

__all__ = ["frame_of", "stream_of"]

HEAD = b"\x82\xa4type\xa5Audio\xa3pcm\xdc\x07\x80"
SINGLE, DOUBLE = 0xCA, 0xCB
STREAMS = 4096
"""A stream's number over this is its first sample."""
WORD_FRAMES = 5
READY = msgpack.packb({"type": "Ready"})
SAID = "lorem ipsum dolor sit amet".split()


def frame_of(stream: int, noise: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a frame by which its stream is known; streams count from 1."""
    frame = noise.copy()
    frame[0] = stream / STREAMS
    return frame


def stream_of(message: bytes) -> int | None:
    """Return the stream of a frame; None for other messages, 0 for nobody's frame."""
    if not message.startswith(HEAD):
        return None
    at = len(HEAD)
    kind = {SINGLE: ">f4", DOUBLE: ">f8"}[message[at]]
    (sample,) = np.frombuffer(message, dtype=kind, count=1, offset=at + 1)
    return round(float(sample) * STREAMS)


class Upstream:
    """Answers each frame at once with a step, and each fifth one with a word."""

    def __init__(self) -> None:
        self.arrived: dict[int, list[float]] = {}

    async def serve(self, socket: ServerConnection) -> None:
        frames = 0
        try:
            await socket.send(READY)
            async for message in socket:
                if not isinstance(message, bytes):
                    continue
                stream = stream_of(message)
                if stream is None:
                    await self._answer(socket, message)
                    continue
                self.arrived.setdefault(stream, []).append(time.monotonic())
                frames += 1
                await self._step(socket, frames)
        except ConnectionClosed:
            return

    async def _answer(self, socket: ServerConnection, message: bytes) -> None:
        if msgpack.unpackb(message).get("type") == "Marker":
            await socket.send(message)

    async def _step(self, socket: ServerConnection, frames: int) -> None:
        step = {
            "type": "Step",
            "step_idx": frames,
            "prs": [0.01, 0.02, 0.03, 0.04],
            "buffered_pcm": 0,
        }
        await socket.send(msgpack.packb(step, use_single_float=True))
        if frames % WORD_FRAMES:
            return
        at = frames * 0.08
        end = {"type": "EndWord", "stop_time": at - 0.7}
        if frames > WORD_FRAMES:
            await socket.send(msgpack.packb(end))
        text = SAID[frames // WORD_FRAMES % len(SAID)]
        word = {"type": "Word", "text": text, "start_time": at - 0.6}
        await socket.send(msgpack.packb(word))


async def _main() -> None:
    upstream = Upstream()
    async with serve(
        upstream.serve, "127.0.0.1", 0, compression=None, ping_interval=None
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"ws://127.0.0.1:{port}/api/asr-streaming", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
        print(json.dumps(upstream.arrived), flush=True)


if __name__ == "__main__":
    anyio.run(_main)
