# SPDX-License-Identifier: MIT
"""Every end that a websocket can have, also those that the library does not offer."""

from __future__ import annotations

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

__all__ = ["NO_CLOSE", "NO_CODE", "Socket", "end_socket"]

NO_CODE = 1005
"""Stands for a Close frame without a code."""

NO_CLOSE = 1006
"""Stands for no Close frame at all."""

Socket = ClientConnection | ServerConnection


async def end_socket(socket: Socket, code: int, reason: str = "") -> None:
    """End it so that the other side sees this code.

    Args:
        socket: The websocket.
        code: As the other side will have it, 1005 and 1006 included.
        reason: Goes with a code that can be sent.
    """
    if code == NO_CLOSE:
        socket.transport.abort()
    elif code != NO_CODE:
        await socket.close(code, reason)
    elif socket.state is State.OPEN:
        socket.protocol.send_close()
        socket.send_data()
