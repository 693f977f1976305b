# SPDX-License-Identifier: MIT
"""The fake server of a soak and its accidents, in this process or in another one."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread

from kyutai_stream.testing.moshi_server import FakeMoshiServer, Model

__all__ = ["Accident", "Accidents", "near_server", "far_server"]

ROOT = Path(__file__).parents[1]

Accident = Callable[[], Awaitable[None]]


class Accidents:
    """What may happen to a server and its connections.

    Args:
        server: Whom it happens to.
    """

    def __init__(self, server: FakeMoshiServer) -> None:
        self._server = server
        self._random = random.Random("accidents")
        self.happened = 0
        """How many so far."""

    async def one(self) -> None:
        """Let one happen: mostly a connection is cut."""
        self._forget()
        self.happened += 1
        kind = self._random.random()
        if kind < 0.1:
            await self._server.restart(down_s=self._random.uniform(0.0, 4.0))
        elif kind < 0.2:
            self._server.stall()
            await anyio.sleep(self._random.uniform(0.5, 3.0))
            self._server.resume()
        else:
            self._strike_one(silent=kind < 0.35)

    def _strike_one(self, *, silent: bool) -> None:
        living = [one for one in self._server.connections if one.open and one.ready]
        if not living:
            return
        one = self._random.choice(living)
        if silent:
            one.half_open(8.0)
        else:
            one.cut()

    def _forget(self) -> None:
        """Throw away the fake's own records, which are kept for tests and grow."""
        connections = self._server.connections
        connections[:] = [one for one in connections if one.open]
        for one in connections:
            one.words.clear()


@contextlib.asynccontextmanager
async def near_server(sessions: int) -> AsyncIterator[tuple[str, Accident]]:
    """A server in this process; yields its address and what can happen to it."""
    # Half-open connections keep their places for a while.
    model = Model(batch_size=sessions + sessions // 2 + 4)
    async with FakeMoshiServer(model, speed=3.0) as server:
        yield server.url, Accidents(server).one


@contextlib.asynccontextmanager
async def far_server(sessions: int) -> AsyncIterator[tuple[str, Accident]]:
    """A server in another process, for real time: its CPU and memory are its own."""
    command = [sys.executable, "-m", "benchmarks._soak_server", str(sessions)]
    async with await anyio.open_process(command, cwd=ROOT, stderr=None) as process:
        talk = process.stdin
        if talk is None or process.stdout is None:
            raise AssertionError("both are pipes")
        # The address is short: it comes in one piece.
        url = (await process.stdout.receive()).decode().strip()

        async def accident() -> None:
            await talk.send(b"accident\n")

        try:
            yield url, accident
        finally:
            with anyio.move_on_after(10, shield=True):
                await talk.aclose()
                await process.wait()


async def _serve(sessions: int, lines: IO[str]) -> None:
    async with near_server(sessions) as (url, accident):
        print(url, flush=True)
        while await anyio.to_thread.run_sync(lines.readline):
            await accident()


if __name__ == "__main__":
    anyio.run(_serve, int(sys.argv[1]), sys.stdin)
