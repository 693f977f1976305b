# SPDX-License-Identifier: MIT
"""One child process: started, listened to, and ended in any case."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import ByteReceiveStream, Process
from attrs import field, frozen

from ._tasks import open_tasks

__all__ = ["Child", "ChildCommand", "run_child"]

KEPT_LINES = 40
LONGEST_LINE = 500
LAST_WORDS_S = 1.0
KILL_S = 10.0
"""A killed process that does not end within this is stuck in the kernel."""


@frozen(kw_only=True)
class ChildCommand:
    """What to start."""

    arguments: Sequence[str]
    """Full path of the program, then its arguments."""
    environment: Mapping[str, str] = field(factory=dict, repr=False)
    """The whole environment: nothing is inherited."""
    hidden: Sequence[str] = field(default=(), repr=False)
    """Texts that are cut out of the output that is kept, such as keys."""
    terminate_s: float = 5.0
    """Seconds from SIGTERM to SIGKILL."""


@asynccontextmanager
async def run_child(command: ChildCommand) -> AsyncGenerator[Child, None]:
    """Run a process in a group of its own for the length of the context.

    Its output is read all the time, so it never waits for anybody. It is ended
    when the context is left, also by cancellation: SIGTERM, after `terminate_s`
    SIGKILL. On Linux it also ends with the thread that started it, and so with
    this process, however that ends.

    Raises:
        OSError: If no process can be started at all. A program that cannot be
            started is a child that ends with status 127.
    """
    launcher = Path(__file__).with_name("_launch.py")
    process = await anyio.open_process(
        [
            *(sys.executable, "-I", "-S", str(launcher), str(os.getpid())),
            *command.arguments,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(command.environment),
        start_new_session=True,
    )
    child = Child(process, command)
    async with open_tasks() as tasks:
        tasks.start_soon(child.read)
        try:
            yield child
        finally:
            await child.end()


class Child:
    """A running process; made by `run_child`."""

    def __init__(self, process: Process, command: ChildCommand) -> None:
        self._process = process
        self._command = command
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._begun = b""
        self._read = anyio.Event()

    @property
    def pid(self) -> int:
        """Process id, and number of its process group."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for its end.

        Returns:
            The exit status, negative for a signal.
        """
        return await self._process.wait()

    def tail(self) -> str:
        """Return its last lines, without what is to be hidden."""
        lines = [*self._lines, _line(self._begun)] if self._begun else self._lines
        text = "\n".join(lines)
        for hidden in self._command.hidden:
            text = text.replace(hidden, "…")
        return text

    async def read(self) -> None:
        """Read its output until it closes it; keep the last lines."""
        stream: ByteReceiveStream | None = self._process.stdout
        if stream is None:
            raise AssertionError("started with a pipe")
        try:
            async for chunk in stream:
                *lines, self._begun = (self._begun + chunk).split(b"\n")
                self._lines.extend(map(_line, lines))
                # A line without end must not grow without end.
                self._begun = self._begun[:LONGEST_LINE]
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            self._read.set()

    async def end(self) -> None:
        """End it and wait for that, bounded, also in a cancelled scope."""
        with anyio.CancelScope(shield=True):
            if self.status is None:
                self._signal(signal.SIGTERM)
                # A stopped process would not see it.
                self._signal(signal.SIGCONT)
                with anyio.move_on_after(self._command.terminate_s):
                    await self._process.wait()
            # Also without a survivor in sight: it may have had children.
            self._signal(signal.SIGKILL)
            with anyio.move_on_after(KILL_S):
                await self._process.wait()
            # What it printed last may still be on the way.
            with anyio.move_on_after(LAST_WORDS_S):
                await self._read.wait()
            with anyio.move_on_after(LAST_WORDS_S):
                await self._process.aclose()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _line(raw: bytes) -> str:
    return raw[:LONGEST_LINE].decode(errors="replace").rstrip()
