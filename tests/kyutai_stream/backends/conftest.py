"""Small scripted websocket servers on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

Handler = Callable[[ServerConnection], Awaitable[None]]
Gate = Callable[[ServerConnection, Request], Response | None]
Serve = Callable[..., Awaitable[str]]


@pytest.fixture
async def scripted() -> AsyncIterator[Serve]:
    """Start servers: `url = await scripted(handler, gate=...)`."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler, gate: Gate | None = None) -> str:
            server = await stack.enter_async_context(
                serve(
                    handler,
                    "127.0.0.1",
                    0,
                    process_request=gate,
                    compression=None,
                    close_timeout=0.1,
                )
            )
            host, port = next(iter(server.sockets)).getsockname()[:2]
            return f"ws://{host}:{port}"

        yield start
