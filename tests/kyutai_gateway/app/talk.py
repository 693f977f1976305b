"""What a client says and hears in protocol 1, for the tests beside this."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.asyncio.client import ClientConnection

from kyutai_stream.testing.tones import Utterance

Open = Callable[..., Any]
Messages = list[dict[str, Any]]
Hear = Callable[..., Awaitable[Messages]]

EOS = json.dumps({"type": "eos"})
FRAME = 4 * 1920


def of(messages: Messages, *kinds: str) -> Messages:
    return [message for message in messages if message["type"] in kinds]


def words(messages: Messages) -> str:
    return "".join(token["text"] for token in of(messages, "token")).strip()


def ask(kind: str, number: int) -> str:
    return json.dumps({"type": kind, "id": number})


def pcm(utterance: Utterance) -> bytes:
    return utterance.samples.astype("<f4").tobytes()


async def say(socket: ClientConnection, data: bytes, size: int = FRAME) -> None:
    for at in range(0, len(data), size):
        await socket.send(data[at : at + size])
