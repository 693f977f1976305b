"""A whole conversation through uvicorn and the fake moshi-server."""

from __future__ import annotations

import pytest

from kyutai_stream.testing.tones import Utterance

from .talk import EOS, Hear, Open, of, pcm, say

pytestmark = pytest.mark.parametrize("way", ["direct", "plain"], indirect=True)


async def test_a_whole_conversation(bench: Open, spoken: Utterance, hear: Hear) -> None:
    async with bench() as it, it.connect() as socket:
        await say(socket, pcm(spoken))
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
