"""Scripted moshi-servers, and what is sent to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgpack
import numpy as np
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

Handler = Callable[[ServerConnection], Awaitable[None]]
Serve = Callable[..., Awaitable[str]]
FRAME = np.full(1920, 0.25, dtype=np.float32)
SILENCE = np.zeros(1920, dtype=np.float32)


async def say(connection: ServerConnection, kind: str, **fields: object) -> None:
    await connection.send(msgpack.packb({"type": kind, **fields}))


async def small_server(connection: ServerConnection) -> None:
    """A step for each frame; a word for the first loud frame after silence."""
    await say(connection, "Ready")
    steps, loud = 0, False
    try:
        async for data in connection:
            message = msgpack.unpackb(data)
            if message["type"] == "Init":
                steps, loud = 0, False
                await say(connection, "Ready")
            if message["type"] != "Audio" or not message["pcm"]:
                continue
            steps += 1
            await say(connection, "Step", step_idx=900 + steps, prs=[0, 0.5, 1, 1])
            was, loud = loud, max(message["pcm"]) > 0.1
            if loud and not was:
                at = 0.08 * (steps - 1)
                await say(connection, "Word", text="loud", start_time=at)
            if was and not loud:
                await say(connection, "EndWord", stop_time=0.08 * (steps - 1))
    except ConnectionClosed:
        pass


def refusing(status: int, **headers: str) -> Callable[..., Response]:
    def gate(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(HTTPStatus(status), "no\n")
        for name, value in headers.items():
            response.headers[name.replace("_", "-")] = value
        return response

    return gate


async def deaf_server(connection: ServerConnection) -> None:
    """Says that it is ready, then neither reads nor writes nor answers."""
    await say(connection, "Ready")
    connection.transport.pause_reading()
    await connection.wait_closed()
