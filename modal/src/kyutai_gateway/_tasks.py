# SPDX-License-Identifier: MIT
"""Tasks beside a body, with errors that stay what they are."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

__all__ = ["bare", "open_tasks"]


@asynccontextmanager
async def open_tasks() -> AsyncGenerator[TaskGroup, None]:
    """Open a task group whose tasks are cancelled when the body ends.

    An error of a task cancels the body and is raised bare; so is one of the body.
    """
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            try:
                yield tasks
            except Exception as exc:
                # Raised again outside of the group, which would wrap it.
                failure = exc
            finally:
                tasks.cancel_scope.cancel()
    except ExceptionGroup as group:
        raise bare(group) from failure
    if failure is not None:
        raise failure


def bare(error: Exception) -> Exception:
    """Return the first error in a group of groups, or what is no group."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
