# SPDX-License-Identifier: MIT
"""Processes that end with us, whatever happens to us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio
from anyio.abc import Process

from ._errors import ServerStartFailed

__all__ = ["ServerProcess", "probe", "tail"]

_POLL_S = 0.01
_TAIL_LINES = 25


def tail(path: Path) -> str:
    """Return the last lines of a log file, an empty string if there is none."""
    with contextlib.suppress(OSError):
        lines = path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])
    return ""


def probe(*command: str, timeout_s: float = 20.0) -> tuple[int, str]:
    """Run a short command to its end; blocks.

    Returns:
        The exit status and what it printed, standard error included. A command
        that does not exist has status 127, one that took too long 124.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except OSError as exc:
        return 127, f"{command[0]}: {exc.strerror}"
    except subprocess.TimeoutExpired:
        return 124, f"{command[0]} took longer than {timeout_s:g} s"
    return done.returncode, done.stdout.decode(errors="replace")


class ServerProcess:
    """One long-running process with its own process group and log file.

    The kernel kills it when this process dies (`PR_SET_PDEATHSIG`, set by
    `setpriv`), so that not even SIGKILL leaves a server behind.

    Args:
        command: Program and arguments.
        log: File that receives its output, appended.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        self._command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        self._process: Process | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """Process id; the commands used here all `exec`, so it is the server's."""
        if self._process is None:
            raise AssertionError("the process was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process; use `wait_ready` to know that it serves."""
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = await anyio.open_process(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        """Return what the process printed since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    async def wait_ready(
        self, ready: Callable[[], Awaitable[bool]], timeout_s: float = 10.0
    ) -> None:
        """Wait until `ready()` is true.

        Raises:
            ServerStartFailed: If the process ended or the time is over.
        """
        with anyio.move_on_after(timeout_s):
            while self.running:
                if await ready():
                    return
                await anyio.sleep(_POLL_S)
        if self.running:
            reason = f"not ready within {timeout_s:g} s"
        else:
            status = None if self._process is None else self._process.returncode
            reason = f"it ended with status {status}"
        raise ServerStartFailed(reason, tail(self.log))

    async def wait(self, timeout_s: float) -> int | None:
        """Wait for the end of the process itself.

        Returns:
            Its exit status, or None if it still runs after `timeout_s` seconds.
        """
        if self._process is None:
            raise AssertionError("the process was not started")
        with anyio.move_on_after(timeout_s):
            return await self._process.wait()
        return None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process group; nothing if it does not run."""
        if self._process is not None:
            self._signal(self._process, number)

    async def stop(self, *, kill: bool = False, grace_s: float = 2.0) -> None:
        """End the process group and wait for it; harmless when it is not running.

        Also works in a cancelled scope.

        Args:
            kill: Send SIGKILL at once instead of SIGTERM first.
            grace_s: Seconds between SIGTERM and SIGKILL.
        """
        process, self._process = self._process, None
        if process is None:
            return
        with anyio.CancelScope(shield=True):
            if not kill:
                self._signal(process, signal.SIGTERM)
                # A stopped process would not see it.
                self._signal(process, signal.SIGCONT)
                with anyio.move_on_after(grace_s):
                    await process.wait()
            # Also without a survivor in sight: the group may hold grandchildren.
            self._signal(process, signal.SIGKILL)
            await process.wait()
            await process.aclose()

    @staticmethod
    def _signal(process: Process, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
