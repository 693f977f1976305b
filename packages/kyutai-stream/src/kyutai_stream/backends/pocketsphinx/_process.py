# SPDX-License-Identifier: MIT
"""The worker process and the pipes to it."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process

from ...errors import ConnectionLost

WORKER = Path(__file__).with_name("worker.py")

CLOSE_TIMEOUT_S = 5.0
"""A killed process is gone at once; more is a broken system."""

READ_BYTES = 65536


class Worker:
    """Messages to and from the process; one task sends, one receives."""

    def __init__(self, stdin: ByteSendStream, stdout: ByteReceiveStream) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._held = b""

    async def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send one message; waits while the pipe is full.

        Raises:
            ConnectionLost: If the process has ended.
        """
        try:
            await self._stdin.send(kind + struct.pack("<I", len(payload)) + payload)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as exc:
            raise ConnectionLost("the pocketsphinx process has ended") from exc

    async def receive(self) -> dict[str, Any] | None:
        """Wait for the next message; None when the process has ended."""
        while b"\n" not in self._held:
            try:
                self._held += await self._stdout.receive(READ_BYTES)
            except (anyio.EndOfStream, anyio.BrokenResourceError, OSError):
                return None
        line, _, self._held = self._held.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


@asynccontextmanager
async def open_worker() -> AsyncGenerator[Worker, None]:
    """Run a worker as long as the block does; it is killed at the end.

    The worker also ends with its standard input and, on Linux, with its parent.
    """
    process = await anyio.open_process(
        # -P: the working directory must not shadow the real pocketsphinx.
        [sys.executable, "-P", str(WORKER), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Ctrl-C in the terminal is the parent's business.
        start_new_session=True,
    )
    try:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("pipes were asked for")
        yield Worker(process.stdin, process.stdout)
    finally:
        await _kill(process)


async def _kill(process: Process) -> None:
    with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
        if process.returncode is None:
            process.kill()
        await process.aclose()
