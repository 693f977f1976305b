# SPDX-License-Identifier: MIT
"""uvicorn's websocket with the extension of `stream/direct.py`.

uvicorn and `websockets` go on doing the handshake, text, fragments, pings, closes and
errors; whole binary frames of the client go past them. This reaches into a class that
uvicorn does not document, so `websocket_class` looks first whether it is as expected.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

from kyutai_stream.wire.websocket import TEXT, FrameSplitter, frame

from .logs import log
from .stream.direct import EXTENSION, Sink

__all__ = ["DirectWebSocket", "websocket_class"]

PLAIN: Literal["websockets-sansio"] = "websockets-sansio"

METHODS = ("data_received", "handle_connect", "handle_bytes", "receive")
ATTRIBUTES = ("queue", "conn", "writable", "close_sent", "transport", "scope")


class DirectWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's websocket with the extension."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sink: Sink | None = None
        self._at_once = False
        self._splitter: FrameSplitter | None = None

    # -- the extension ---------------------------------------------------------------

    def hand_on(self, sink: Sink) -> None:
        """Give binary messages to `sink` while a task waits in `receive`."""
        self._sink = sink

    def say(self, text: str) -> bool:
        """Send a text message; False if that would have to wait: not sent."""
        if (
            not self.writable.is_set()
            or self.conn.state is not State.OPEN
            or self.close_sent
            or self.transport.is_closing()
        ):
            return False
        self.transport.write(frame(text.encode(), opcode=TEXT, masked=False))
        return True

    # -- uvicorn's hooks -------------------------------------------------------------

    def handle_connect(self, event: Request) -> None:
        """Take the request; what follows it are frames."""
        super().handle_connect(event)
        self._splitter = FrameSplitter(masked=True, longest=self.config.ws_max_size)
        if hasattr(self, "scope"):
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]  # an extension of our own

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        if self._splitter is None:
            # uvicorn hands on the head of the request, and nothing behind it.
            super().data_received(data)
            return
        for binary, piece in self._splitter.feed(data):
            if self.conn.parser_exc is not None:
                return
            if not binary:
                # A message that is queued comes first.
                self._at_once = False
                super().data_received(piece)
            elif self._at_once and self._sink is not None:
                self._at_once = self._sink(piece)
            elif self.conn.close_rcvd is None:
                self._at_once = False
                self.handle_bytes(Frame(Opcode.BINARY, piece))

    async def receive(self) -> Any:
        """Wait for the next message that is not taken at once."""
        self._at_once = self._sink is not None and self.queue.empty()
        try:
            return await super().receive()
        finally:
            self._at_once = False


def websocket_class() -> type[DirectWebSocket] | Literal["websockets-sansio"]:
    """The websocket for `uvicorn.Config`: ours, or uvicorn's own where it changed."""
    names = WebSocketsSansIOProtocol.__init__.__code__.co_names
    methods = [name for name in METHODS if hasattr(WebSocketsSansIOProtocol, name)]
    known = {*names, *WebSocketsSansIOProtocol.handle_connect.__code__.co_names}
    if len(methods) == len(METHODS) and known.issuperset(ATTRIBUTES):
        return DirectWebSocket
    log("direct_unavailable", level=logging.WARNING, uvicorn=uvicorn.__version__)
    return PLAIN
