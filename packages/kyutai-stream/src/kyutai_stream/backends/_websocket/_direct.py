# SPDX-License-Identifier: MIT
"""A websocket whose binary messages can be had, and sent, without changing tasks.

`websockets` does the handshake, pings, closes, text, fragments and all errors. Whole
binary frames go past it, in order: to a `sink` at once while there is one, else into
its queue. Source of the hooks: `create_connection` of `connect()` is documented for
subclasses of `ClientConnection`, which is an `asyncio.Protocol`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from ...wire.websocket import FrameSplitter, frame

__all__ = ["MAX_MESSAGE", "DirectConnection"]

MAX_MESSAGE = 1 << 20
"""Bytes. The longest honest message is a word."""

END_OF_HEAD = b"\r\n\r\n"


class DirectConnection(ClientConnection):
    """A client's connection; made by `connect(create_connection=...)`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sink: Callable[[bytes], None] | None = None
        """Takes binary messages, called by the event loop. It goes away by itself at
        a message that went into the queue: that one comes first."""
        self._splitter = FrameSplitter(masked=False, longest=MAX_MESSAGE)
        self._upgraded = False
        self._tail = b""

    @property
    def writable(self) -> bool:
        """Whether `write` may be called: open, and the peer reads."""
        return (
            not self.paused
            and self.protocol.state is State.OPEN
            and not self.transport.is_closing()
        )

    def write(self, message: bytes) -> None:
        """Send a binary message without waiting; only while `writable`."""
        self.transport.write(frame(message, masked=True))

    def data_received(self, data: bytes) -> None:
        """Take bytes of the peer."""
        if not self._upgraded:
            data = self._answer(data)
        for binary, piece in self._splitter.feed(data) if data else ():
            if not binary:
                # The end of a fragmented message goes into the queue, too.
                self.sink = None
                super().data_received(piece)
            elif self.sink is not None:
                self.sink(piece)
            elif self.protocol.close_rcvd is None:
                self.process_event(Frame(Opcode.BINARY, piece))

    def _answer(self, data: bytes) -> bytes:
        """Take the head of the answer to the handshake; returns what follows it."""
        seen = len(self._tail)
        joined = self._tail + data
        end = joined.find(END_OF_HEAD)
        self._tail = joined[-len(END_OF_HEAD) + 1 :]
        if end < 0:
            super().data_received(data)
            return b""
        cut = end + len(END_OF_HEAD) - seen
        super().data_received(data[:cut])
        if self.protocol.state is State.OPEN:
            self._upgraded = True
            return data[cut:]
        # Refused: the body of the answer is the library's.
        if data[cut:]:
            super().data_received(data[cut:])
        return b""
