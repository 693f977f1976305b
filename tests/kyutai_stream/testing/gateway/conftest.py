"""Raw websocket talk with the fake gateway, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from kyutai_stream.testing.tones import Utterance, speak
from kyutai_stream.testing.virtual_time import VirtualTimeLoop

Hear = Callable[..., Awaitable[list[dict[str, Any]]]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


@pytest.fixture
def spoken() -> Utterance:
    """Five words with a sentence pause; ends 0.1 s after the last."""
    return speak(
        "alpha bravo charlie. delta november",
        lead_s=0.3,
        sentence_pause_s=1.5,
        tail_s=0.1,
        seed=3,
    )


@pytest.fixture
def hear() -> Hear:
    """All JSON messages until the close, or for some seconds of virtual time."""

    async def hear(
        socket: ClientConnection, seconds: float = 5.0
    ) -> list[dict[str, Any]]:
        messages = []
        with anyio.move_on_after(seconds):
            try:
                while True:
                    message = json.loads(await socket.recv())
                    messages.append(message)
            except ConnectionClosed:
                pass
        return messages

    return hear
