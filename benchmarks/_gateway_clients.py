# SPDX-License-Identifier: MIT
"""Clients that speak at live pace, in a process of their own.

`python -m benchmarks._gateway_clients URL STREAMS WARM_UP SECONDS audio|moshi` prints
`measuring` and `done` around the measured time, then, as JSON, when each frame of it
was sent, by stream. `audio` is what a gateway takes, `moshi` what moshi-server does.
Frames are encoded before: what is measured is the way, not the sender.
"""

from __future__ import annotations

import json
import random
import sys
import time

import anyio
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from kyutai_stream.wire.moshi import encode_audio

from ._gateway_upstream import frame_of

__all__: list[str] = []

FRAME_S = 0.08
START_S = 1.0
"""For all to be connected."""


class Clients:
    """All of them; each sends frames of its own and throws away what it is told."""

    def __init__(self, url: str, kind: str, streams: int, frames: int) -> None:
        self._url = url
        noise = 0.1 * np.random.default_rng(1).standard_normal(1920).astype(np.float32)
        numbers = range(1, streams + 1)
        samples = {number: frame_of(number, noise) for number in numbers}
        self._messages = {
            number: encode_audio(frame) if kind == "moshi" else frame.tobytes()
            for number, frame in samples.items()
        }
        self._frames = frames
        self.sent: dict[int, list[float]] = {number: [] for number in numbers}

    async def run(self, begin: float) -> None:
        spread = random.Random(1)
        async with anyio.create_task_group() as tasks:
            for number in self.sent:
                offset_s = spread.uniform(0.0, FRAME_S)
                tasks.start_soon(self._speak, number, begin + offset_s)

    async def _speak(self, number: int, begin: float) -> None:
        message, sent = self._messages[number], self.sent[number]
        async with (
            connect(self._url, compression=None, ping_interval=None) as socket,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_drain, socket)
            for frame in range(self._frames):
                await anyio.sleep_until(begin + frame * FRAME_S)
                sent.append(time.monotonic())
                await socket.send(message)
            # What is under way arrives before the close.
            await anyio.sleep(0.5)
            tasks.cancel_scope.cancel()


async def _drain(socket: ClientConnection) -> None:
    try:
        async for _ in socket:
            pass
    except ConnectionClosed:
        return


async def _main() -> None:
    url, streams, warm_up_s, seconds, kind = sys.argv[1:]
    frames = round((float(warm_up_s) + float(seconds)) / FRAME_S) + 2
    clients = Clients(url, kind, int(streams), frames)
    begin = anyio.current_time() + START_S
    since = begin + float(warm_up_s)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clients.run, begin)
        await anyio.sleep_until(since)
        started = time.monotonic()
        print("measuring", flush=True)
        await anyio.sleep_until(since + float(seconds))
        ended = time.monotonic()
        print("done", flush=True)
    print(json.dumps({"since": started, "until": ended, "sent": clients.sent}))


if __name__ == "__main__":
    anyio.run(_main)
