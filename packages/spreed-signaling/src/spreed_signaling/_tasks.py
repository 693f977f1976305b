# SPDX-License-Identifier: MIT
"""Task groups whose errors stay what they are, and a signal that can be waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

__all__ = ["Signal", "open_task_group"]


@asynccontextmanager
async def open_task_group() -> AsyncIterator[TaskGroup]:
    """Open a task group that raises a single error as it is, not in a group.

    Groups that an application raised itself stay as they are.

    Raises:
        BaseExceptionGroup: Only if several tasks failed with different errors.
    """
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        error = group.exceptions[0]
        raise error from error.__cause__


class Signal:
    """Wakes whoever waits; signals in between are merged into one."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Wake the waiters, or the next one."""
        self._event.set()

    async def wait(self, until: float | None = None) -> None:
        """Wait for the next `set`, or until the loop's clock shows `until`.

        Cancellation-safe; one waiter at a time.
        """
        with anyio.CancelScope(deadline=float("inf") if until is None else until):
            await self._event.wait()
        if self._event.is_set():
            self._event = anyio.Event()
