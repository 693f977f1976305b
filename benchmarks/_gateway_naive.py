# SPDX-License-Identifier: MIT
"""The proxy that is deployed today, in its essentials: what ours is compared with.

It packs each frame again as Python floats (MessagePack doubles) and tells words only:
no acknowledgements, pauses, limits or health. Served by the same uvicorn with the same
websockets as ours, so that the difference is the work for each frame.

`python -m benchmarks._gateway_naive URL PORT`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
import msgpack
import numpy as np
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

__all__ = ["NaiveProxy"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

FRAME_BYTES = 1920 * 4


class NaiveProxy:
    """An ASGI application.

    Args:
        url: Of the moshi-server.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            async with connect(self._url, compression=None) as upstream:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._tell, upstream, send)
                    await self._hear(upstream, receive)
                    tasks.cancel_scope.cancel()

    async def _hear(self, upstream: ClientConnection, receive: Receive) -> None:
        rest = b""
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            rest += message.get("bytes") or b""
            while len(rest) >= FRAME_BYTES:
                frame = np.frombuffer(rest[:FRAME_BYTES], dtype=np.float32)
                rest = rest[FRAME_BYTES:]
                audio = {"type": "Audio", "pcm": frame.tolist()}
                await upstream.send(msgpack.packb(audio))

    async def _tell(self, upstream: ClientConnection, send: Send) -> None:
        try:
            async for data in upstream:
                message = msgpack.unpackb(data)
                if message.get("type") == "Word":
                    token = {"type": "token", "text": message["text"]}
                    await send({"type": "websocket.send", "text": json.dumps(token)})
        except (ConnectionClosed, OSError):
            # The server or the client has gone.
            return


def main() -> None:
    """Serve until killed."""
    url, port = sys.argv[1:]
    uvicorn.run(
        NaiveProxy(url),
        host="127.0.0.1",
        port=int(port),
        http="h11",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        lifespan="off",
        log_level="warning",
    )


if __name__ == "__main__":
    main()
