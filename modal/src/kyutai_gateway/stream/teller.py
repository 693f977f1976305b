# SPDX-License-Identifier: MIT
"""What a stream says to its client: one message after the other, by one at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio

from .direct import Direct
from .machine import Ending, StreamMachine

__all__ = ["Message", "Send", "Teller"]

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

CLOSE_S = 3.0
"""A close frame that cannot be sent in this time is not sent."""


class Teller:
    """Empties a machine's outbox, and closes after the last message.

    Args:
        send: ASGI `send`, after the accept.
        machine: Whose outbox.
        direct: Sends at once, where the server offers it.
        clock: Seconds.
        stop: Called when there is nobody to tell anything to any more.
    """

    def __init__(
        self,
        *,
        send: Send,
        machine: StreamMachine,
        direct: Direct | None,
        clock: Callable[[], float],
        stop: Callable[[], None],
    ) -> None:
        self._send = send
        self._machine = machine
        self._direct = direct
        self._clock = clock
        self._stop = stop
        self._told = anyio.Event()
        self.since: float | None = None
        """When the message began that is on its way now."""
        self.closed = False
        """Whether the close was sent, or tried to."""

    async def tell(self) -> None:
        """Send what waits for the client; close where that was the last."""
        if self.since is not None or self.closed:
            return
        machine, outbox = self._machine, self._machine.outbox
        self.since = self._clock()
        try:
            while outbox:
                text = outbox.popleft()
                await self._send({"type": "websocket.send", "text": text})
                self.since = self._clock()
            if machine.ending is not None:
                await self._close(machine.ending)
        except (OSError, RuntimeError):
            # How servers say that the client has gone, or that they closed already.
            machine.gone()
            self._stop()
        finally:
            self.since = None
            self._told.set()

    def tell_now(self) -> bool:
        """Send what does not wait; returns whether that was all."""
        direct, outbox = self._direct, self._machine.outbox
        if direct is not None and self.since is None and not self.closed:
            while outbox and direct.say(outbox[0]):
                outbox.popleft()
        return not outbox and self._machine.ending is None

    async def until_told(self) -> None:
        """Wait while another task is stuck with the client."""
        while self.since is not None and self._machine.outbox:
            self._told = anyio.Event()
            await self._told.wait()

    async def _close(self, ending: Ending) -> None:
        self.closed = True
        if ending.close is not None:
            with anyio.move_on_after(CLOSE_S):
                await self._send(
                    {
                        "type": "websocket.close",
                        "code": ending.close,
                        "reason": ending.reason,
                    }
                )
        self._stop()
