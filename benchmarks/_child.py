# SPDX-License-Identifier: MIT
"""The other process of a benchmark, spoken with in lines of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from attrs import define

__all__ = ["Child", "open_child"]

ROOT = Path(__file__).parents[1]
STOP_S = 5.0


@define
class Child:
    """A running process; one call of `hear` at a time."""

    process: Process
    _rest: bytes = b""

    async def tell(self, what: object) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None, "it is a pipe"
        await self.process.stdin.send(json.dumps(what).encode() + b"\n")

    async def hear(self, limit_s: float | None = None) -> Any:
        """Return its next line.

        Raises:
            TimeoutError: If none comes in time.
            anyio.EndOfStream: If it has ended.
        """
        assert self.process.stdout is not None, "it is a pipe"
        with anyio.fail_after(limit_s):
            while b"\n" not in self._rest:
                self._rest += await self.process.stdout.receive()
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)


@asynccontextmanager
async def open_child(module: str, *arguments: str) -> AsyncGenerator[Child, None]:
    """Run a module of this package; at the end it is killed."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    process = await anyio.open_process(command, cwd=ROOT, stderr=None)
    try:
        yield Child(process)
    finally:
        with anyio.move_on_after(STOP_S, shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()
