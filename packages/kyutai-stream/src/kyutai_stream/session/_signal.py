# SPDX-License-Identifier: MIT
"""A wake-up that is never missed and never queued, for one waiting task."""

from __future__ import annotations

import math

import anyio


class Signal:
    """Notifications before a wait let it return at once; several count as one."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: anyio.Event | None = None

    def notify(self) -> None:
        """Wake the waiting task, or the next one that waits."""
        self._is_set = True
        if self._waiting is not None:
            self._waiting.set()

    async def wait(self, until: float = math.inf) -> None:
        """Wait for a notification, or until then (the event loop's clock)."""
        if not self._is_set:
            self._waiting = anyio.Event()
            try:
                with anyio.CancelScope(deadline=until):
                    await self._waiting.wait()
            finally:
                self._waiting = None
        self._is_set = False
