# SPDX-License-Identifier: MIT
"""What a server may offer besides ASGI: messages without waking a task.

A stream has 12 frames, 12 steps and some words a second, and waking a task costs more
than what is to be done for each. So the scope may have an extension by which the
application gets binary messages at once, and sends text at once where that does not
wait. The application works without (Modal's own server has no such thing): what is
not direct goes the usual way, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["EXTENSION", "Direct", "Sink"]

EXTENSION = "kyutai_gateway.direct"
"""Key of a `Direct` in the scope's `extensions`."""

Sink = Callable[[bytes], bool]
"""Takes a binary message; returns whether it wants the next one so, too."""


class Direct(Protocol):
    """What the extension offers."""

    def hand_on(self, sink: Sink) -> None:
        """Give binary messages to `sink` while a task waits in `receive`.

        Args:
            sink: Called by the event loop; must not raise.
        """

    def say(self, text: str) -> bool:
        """Send a text message; False if that would have to wait: not sent."""
