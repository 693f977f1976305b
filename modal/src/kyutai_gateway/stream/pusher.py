# SPDX-License-Identifier: MIT
"""What a stream does upstream: one thing after the other, by one at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kyutai_stream import Connection, KyutaiStreamError
from kyutai_stream.backend import PromptConnection

from .line import KEEPALIVE, RESET, Action, FlushRequest
from .machine import StreamMachine

__all__ = ["Pusher"]


class Pusher:
    """Does what a machine wants done at its model connection.

    Args:
        machine: Says what.
        clock: Seconds.
    """

    def __init__(self, machine: StreamMachine, clock: Callable[[], float]) -> None:
        self._machine = machine
        self._clock = clock
        self._connection: Connection | None = None
        self._prompt: PromptConnection | None = None
        # Taken from the machine, and not done because it may wait.
        self._action: Action | None = None
        self.since: float | None = None
        """When that began which is being done now."""
        self.failure: KyutaiStreamError | None = None
        """How the connection failed, if it did."""

    def use(
        self, connection: Connection | None, prompt: PromptConnection | None = None
    ) -> None:
        """Work with a connection; None: there is none any more.

        Args:
            connection: Open.
            prompt: The same, where it may be used without waiting.
        """
        self._connection = connection
        self._prompt = prompt

    async def push(self) -> None:
        """Do all that is to be done now."""
        if self.since is not None or self._connection is None:
            return
        connection = self._connection
        try:
            while True:
                now = self._clock()
                action, self._action = self._action, None
                if action is None:
                    action = self._machine.next_action(now)
                if action is None:
                    break
                self.since = now
                await _do(action, connection)
        except KyutaiStreamError as exc:
            # The task that reads sees it too, and may have words from before it.
            self.failure = exc
            self.use(None)
        finally:
            self.since = None

    def push_now(self, now: float) -> bool:
        """Send frames as far as that does not wait; returns whether that was all."""
        if self.since is not None or self._action is not None:
            return True
        prompt = self._prompt
        while (action := self._machine.next_action(now)) is not None:
            if (
                prompt is None
                or not isinstance(action, np.ndarray)
                or not prompt.writable
            ):
                self._action = action
                return False
            prompt.send_now(action)
        return True


async def _do(action: Action, connection: Connection) -> None:
    if isinstance(action, np.ndarray):
        await connection.send(action)
    elif isinstance(action, FlushRequest):
        await connection.request_flush(action.token)
    elif action is RESET:
        await connection.reset()
    elif action is KEEPALIVE:
        await connection.keepalive()
