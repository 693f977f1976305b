"""Time-outs of servers take no time here: virtual time."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest

from kyutai_stream.testing import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
async def raw_port() -> AsyncIterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
