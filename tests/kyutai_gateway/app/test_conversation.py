"""A whole conversation through uvicorn and the fake moshi-server."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kyutai_stream.testing.tones import Utterance

Open = Callable[..., Any]
Hear = Callable[..., Awaitable[list[dict[str, Any]]]]

EOS = json.dumps({"type": "eos"})

pytestmark = pytest.mark.parametrize("way", ["direct", "plain"], indirect=True)


def of(messages: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] in kinds]


async def test_a_whole_conversation(bench: Open, spoken: Utterance, hear: Hear) -> None:
    async with bench() as it, it.connect() as socket:
        data = spoken.samples.astype("<f4").tobytes()
        for at in range(0, len(data), 7680):
            await socket.send(data[at : at + 7680])
        await socket.send(EOS)
        messages = await hear(socket)
        assert socket.close_code == 1000
    assert messages[0]["type"] == "ready"
    assert messages[-1] == {"type": "end"}
    tokens = of(messages, "token")
    assert "".join(token["text"] for token in tokens) == f" {spoken.text}"
    assert [token["start"] for token in tokens] == pytest.approx(
        [word.start for word in spoken.words], abs=0.08
    )
    assert of(messages, "ack")[-1]["samples"] == len(spoken.samples)
