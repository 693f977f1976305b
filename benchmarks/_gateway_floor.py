# SPDX-License-Identifier: MIT
"""The least that a proxy in Python can cost: what ours can be measured by.

Two `asyncio.Protocol`s with the frame encoder, and nothing else: no limits, no clock,
no back-pressure, no flush, no errors, no times of words. It is not a gateway, it is
what the event loop, the kernel and the encoding cost by themselves.

`python -m benchmarks._gateway_floor URL PORT`.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from typing import Any
from urllib.parse import urlsplit

import msgpack
import numpy as np
from websockets.utils import accept_key

from kyutai_stream.wire.moshi import FrameEncoder
from kyutai_stream.wire.websocket import TEXT, FrameSplitter, frame

__all__: list[str] = []

LONGEST = 1 << 22
READ_BYTES = 1 << 16


class Side(asyncio.BufferedProtocol):
    """One websocket after its handshake, at either end.

    Buffered, because for any other protocol asyncio allocates 256 KiB for each read.
    """

    masked = False
    """Whether what comes is masked: the other side is a client."""

    def __init__(self) -> None:
        self._splitter = FrameSplitter(masked=self.masked, longest=LONGEST)
        self._buffer = memoryview(bytearray(READ_BYTES))
        self.open = False
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer[:nbytes])
        if not self.open:
            head, _, data = data.partition(b"\r\n\r\n")
            self.handshake(head)
            self.open = True
        for binary, piece in self._splitter.feed(data):
            if binary:
                self.message(piece)
            elif piece[0] & 0x0F == 8:
                self.transport.close()

    def handshake(self, head: bytes) -> None:
        """Answer it, or take the answer."""

    def message(self, payload: bytes) -> None:
        """Take a binary message."""


class ToModel(Side):
    """The connection to the model server."""

    def __init__(self, client: ToClient, host: str, path: str) -> None:
        super().__init__()
        self._client = client
        self._host, self._path = host, path

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: {self._host}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def message(self, payload: bytes) -> None:
        message = msgpack.unpackb(payload)
        if message["type"] == "Step":
            prs = ",".join([f"{one:.3f}" for one in message["prs"]])
            samples = message["step_idx"] * 1920
            self._client.say(f'{{"type":"ack","samples":{samples},"prs":[{prs}]}}')
        elif message["type"] == "Word":
            self._client.say(f'{{"type":"token","text":" {message["text"]}"}}')


class ToClient(Side):
    """A client's connection; any other request is answered as a health check."""

    masked = True

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = urlsplit(url)
        self._encoder = FrameEncoder()
        self._model: ToModel | None = None
        self._dialling: Any = None

    def handshake(self, head: bytes) -> None:
        lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
        headers = {name.lower(): value.strip() for name, _, value in lines}
        key = headers.get(b"sec-websocket-key")
        if key is None:
            self.transport.write(b"HTTP/1.0 200 OK\r\n\r\n")
            self.transport.close()
            return
        accept = accept_key(key.decode())
        self.transport.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        self._dialling = asyncio.ensure_future(self._dial())  # noqa: TID251  # no more than a floor

    async def _dial(self) -> None:
        url = self._url
        model = ToModel(self, url.netloc, url.path)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: model, str(url.hostname), url.port or 80)
        self._model = model

    def say(self, text: str) -> None:
        """Send text."""
        self.transport.write(frame(text.encode(), opcode=TEXT, masked=False))

    def message(self, payload: bytes) -> None:
        if self._model is not None and self._model.open:
            encoded = self._encoder.encode(np.frombuffer(payload, "<f4"))
            self._model.transport.write(frame(encoded, masked=True))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._model is not None:
            self._model.transport.close()


async def _main() -> None:
    url, port = sys.argv[1:]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ToClient(url), "127.0.0.1", int(port))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
