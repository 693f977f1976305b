# SPDX-License-Identifier: MIT
"""Files that say "in use" for exactly as long as a process lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio

from ._errors import MoshiServerUnavailable

__all__ = ["RunFolder", "exclusive"]

_PREFIX = "kyutai-stream-real-"
_OWNER = "owner"
_YOUNG_S = 3600.0


def _try_lock(path: Path) -> int | None:
    """Lock a file; the descriptor, or None while another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextlib.asynccontextmanager
async def exclusive(path: Path, timeout_s: float) -> AsyncIterator[None]:
    """Hold a lock file, waiting for another process that holds it.

    Raises:
        MoshiServerUnavailable: If it is not free within `timeout_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = None
    with anyio.move_on_after(timeout_s):
        # Another process holds it, and no event here can tell when it lets go.
        while (descriptor := _try_lock(path)) is None:  # noqa: ASYNC110
            await anyio.sleep(0.1)
    if descriptor is None:
        raise MoshiServerUnavailable(f"another process holds {path}")
    try:
        yield
    finally:
        os.close(descriptor)


class RunFolder:
    """A temporary folder for one run, which the next run removes if we cannot.

    The kernel drops the lock when a killed process is gone, so an unlocked folder
    is a left-over.
    """

    def __init__(self) -> None:
        self._sweep()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._descriptor = _try_lock(self.path / _OWNER)

    def remove(self) -> None:
        """Delete the folder with everything in it; harmless when done twice."""
        if self._descriptor is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._descriptor)
            self._descriptor = None

    @staticmethod
    def _sweep() -> None:
        for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                if not (folder / _OWNER).exists():
                    # Another process may be between making folder and lock. File
                    # times are wall-clock times, hence this clock.
                    age_s = time.clock_gettime(time.CLOCK_REALTIME)
                    age_s -= folder.stat().st_mtime
                    if age_s < _YOUNG_S:
                        continue
                descriptor = _try_lock(folder / _OWNER)
                if descriptor is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(descriptor)
