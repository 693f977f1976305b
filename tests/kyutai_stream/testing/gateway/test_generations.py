"""The older dialects, over raw websockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from kyutai_stream.testing.gateway import (
    Abort,
    Attempt,
    DialectName,
    Fail,
    FakeGateway,
    Timers,
)
from kyutai_stream.testing.moshi_server import ScriptedRecogniser
from kyutai_stream.testing.tones import HeardWord, Utterance

Hear = Callable[..., Awaitable[list[dict[str, Any]]]]

SILENCE = np.zeros(24_000, dtype="<f4").tobytes()
FRAME = np.zeros(1920, dtype="<f4").tobytes()


def pcm16(spoken: Utterance, silence_s: float = 0.0) -> bytes:
    data = (spoken.samples * 32767).astype("<i2").tobytes()
    return data + bytes(2 * round(silence_s * 24_000))


async def say(socket: ClientConnection, spoken: Utterance) -> None:
    data = spoken.samples.astype("<f4").tobytes()
    for at in range(0, len(data), len(FRAME)):
        await socket.send(data[at : at + len(FRAME)])


async def test_gen1_tells_the_text_of_each_chunk(spoken: Utterance, hear: Hear) -> None:
    data = pcm16(spoken)
    async with FakeGateway("gen1") as gateway, connect(gateway.url) as socket:
        for at in range(0, len(data), 4000):
            await socket.send(data[at : at + 4000])
        first = await hear(socket)
        await socket.send(b"EOS")
        last = await hear(socket)
        assert socket.close_code == 1000
    assert first == [{"text": "alpha bravo charlie", "final": False}]
    assert last == [
        {"text": "delta november", "final": True},
        {"status": "complete"},
    ]


async def test_gen1_drops_a_short_rest(spoken: Utterance, hear: Hear) -> None:
    async with FakeGateway("gen1") as gateway, connect(gateway.url) as socket:
        await socket.send(pcm16(spoken)[:40_000])
        await socket.send(b"EOS")
        assert await hear(socket) == [{"status": "complete"}]


async def test_gen1_survives_odd_bytes(hear: Hear) -> None:
    async with FakeGateway("gen1") as gateway, connect(gateway.url) as socket:
        await socket.send(b"abc")
        await socket.send(b"EOS")
        messages = await hear(socket)
    assert list(messages[0]) == ["error"]
    assert messages[1] == {"status": "complete"}


async def test_gen2_speaks_in_pieces(spoken: Utterance, hear: Hear) -> None:
    async with FakeGateway("gen2") as gateway, connect(gateway.url) as socket:
        await say(socket, spoken)
        await socket.send(SILENCE)
        messages = await hear(socket)
    pieces = [one["text"] for one in messages if one["type"] == "token"]
    assert len(pieces) > len(spoken.words)
    assert "".join(pieces) == f" {spoken.text}"
    # On every quiet step: no edge.
    assert sum(one["type"] == "vad_end" for one in messages[-8:]) > 4
    assert {one["type"] for one in messages} == {"token", "vad_end"}


async def test_gen2_pings_and_hangs_up_on_the_silent(hear: Hear) -> None:
    async with FakeGateway("gen2") as gateway, connect(gateway.url) as socket:
        began = anyio.current_time()
        for _ in range(3):
            await socket.send(FRAME)
            await anyio.sleep(5)
        messages = await hear(socket, 60)
        assert anyio.current_time() - began == pytest.approx(20, abs=0.1)
        assert [one["type"] for one in messages].count("ping") == 2
        assert socket.close_code == 1000


async def test_gen3_says_words_and_nothing_else(spoken: Utterance, hear: Hear) -> None:
    async with FakeGateway("gen3") as gateway, connect(gateway.url) as socket:
        await say(socket, spoken)
        messages = await hear(socket, 25)
        # The last word is still in the model, and nothing brings it out.
        assert messages == [
            {"type": "token", "text": text} for text in spoken.text.split()[:-1]
        ]
        await socket.send(b"")
        assert await hear(socket, 25) == []
        # The tail of the speech never made a frame; now it does.
        await socket.send(SILENCE)
        assert await hear(socket, 25) == [{"type": "token", "text": "november"}]


async def test_gen3_leaves_empty_words_out(hear: Hear) -> None:
    words = [
        HeardWord(text="", start=0.0, end=0.1),
        HeardWord(text="well", start=0.3, end=0.5),
    ]
    gateway = FakeGateway("gen3", listen=lambda: ScriptedRecogniser(words))
    async with gateway, connect(gateway.url) as socket:
        await socket.send(SILENCE * 2)
        assert await hear(socket) == [{"type": "token", "text": "well"}]


async def test_gen3_self_hosted_begins_words_with_a_space(
    spoken: Utterance, hear: Hear
) -> None:
    gateway = FakeGateway("gen3", leading_space=True, timers=Timers(idle_s=10.0))
    async with gateway, connect(gateway.url) as socket:
        await say(socket, spoken)
        messages = await hear(socket, 20)
        assert messages[0] == {"type": "token", "text": " alpha"}
        assert socket.close_code == 1000


@pytest.mark.parametrize("poison", [b"EOS", FRAME[:-1], '{"type": "eos"}'])
async def test_gen3_dies_of(poison: str | bytes, hear: Hear) -> None:
    async with FakeGateway("gen3") as gateway, connect(gateway.url) as socket:
        await socket.send(FRAME)
        await socket.send(poison)
        assert await hear(socket) == []
        assert socket.close_code == 1000


async def test_gen3_idles_30_s_and_empty_messages_count(hear: Hear) -> None:
    async with FakeGateway("gen3") as gateway, connect(gateway.url) as socket:
        began = anyio.current_time()
        await anyio.sleep(20)
        await socket.send(b"")
        assert await hear(socket, 60) == []
        assert anyio.current_time() - began == pytest.approx(50, abs=0.1)
        assert socket.close_code == 1000


async def test_gen3_loses_its_model_after_120_s_without_audio(hear: Hear) -> None:
    """Empty messages are not forwarded; the next frame then ends the stream."""
    async with FakeGateway("gen3") as gateway, connect(gateway.url) as socket:
        await socket.send(FRAME)
        for _ in range(5):
            await anyio.sleep(25)
            await socket.send(b"")
        assert await hear(socket, 1) == []
        assert socket.close_code is None
        await socket.send(FRAME)
        assert await hear(socket, 1) == []
        assert socket.close_code == 1000


@pytest.mark.parametrize("attempt", [Attempt(full=True), Attempt()])
async def test_gen3_notices_a_lost_model_with_the_next_frame(
    attempt: Attempt, hear: Hear
) -> None:
    gateway = FakeGateway("gen3", attempts=[attempt])
    async with gateway, connect(gateway.url) as socket:
        if not attempt.full:
            await hear(socket, 1)
            gateway.happen(Fail(code="upstream_lost"))
        assert await hear(socket, 5) == []
        assert socket.close_code is None
        await socket.send(FRAME)
        assert await hear(socket, 5) == []
        assert socket.close_code == 1000
        assert gateway.used == 0


async def test_gen3_is_cut_after_30_minutes(hear: Hear) -> None:
    async with FakeGateway("gen3") as gateway, connect(gateway.url) as socket:
        began = anyio.current_time()
        while socket.close_code is None:
            await socket.send(FRAME)
            await hear(socket, 25)
        assert anyio.current_time() - began == pytest.approx(1800, abs=1)
        assert socket.close_code == 1006
        assert gateway.connections[0].closed == (1006, "")


async def test_the_documents_shape(spoken: Utterance, hear: Hear) -> None:
    async with FakeGateway("document") as gateway, connect(gateway.url) as socket:
        await say(socket, spoken)
        await socket.send(SILENCE * 2)
        messages = await hear(socket)
        await socket.send(b"EOS")
        assert await hear(socket) == []
        assert socket.close_code == 1000
    words = [{"text": w, "final": False, "vad_end": False} for w in spoken.text.split()]
    pause = {"text": "", "final": True, "vad_end": True}
    assert messages == [*words[:3], pause, *words[3:], pause]


@pytest.mark.parametrize(
    ("dialect", "timers", "seconds"),
    [
        ("gen1", None, 600),
        ("gen2", None, 600),
        ("protocol1", Timers(life_s=240.0, drain_s=60.0), 300),
    ],
)
async def test_lives_end(
    dialect: DialectName, timers: Timers | None, seconds: float, hear: Hear
) -> None:
    gateway = FakeGateway(dialect, timers=timers)
    async with gateway, connect(gateway.url) as socket:
        began = anyio.current_time()
        messages = []
        while socket.close_code is None:
            await socket.send(FRAME)
            messages += await hear(socket, 9)
        assert anyio.current_time() - began == pytest.approx(seconds, abs=1)
        if dialect == "protocol1":
            assert socket.close_code == 1012
            (notice,) = (one for one in messages if one["type"] == "draining")
            assert notice["deadline_s"] == 60.0
            assert messages[-1]["code"] == "draining"
        else:
            assert socket.close_code == 1000


@pytest.mark.parametrize("dialect", ["gen1", "gen2", "gen3", "document"])
async def test_errors_close_as_the_dialect_does(
    dialect: DialectName, hear: Hear
) -> None:
    async with FakeGateway(dialect) as gateway, connect(gateway.url) as socket:
        await hear(socket, 1)
        gateway.happen(Fail(code="upstream_wedged"))
        messages = await hear(socket)
        assert socket.close_code == (1011 if dialect == "document" else 1000)
        assert len(messages) == (1 if dialect in ("gen1", "gen2") else 0)


@pytest.mark.parametrize("dialect", ["gen1", "gen2", "gen3", "document"])
async def test_an_abrupt_end(dialect: DialectName, hear: Hear) -> None:
    async with FakeGateway(dialect) as gateway, connect(gateway.url) as socket:
        await hear(socket, 1)
        gateway.happen(Abort())
        await hear(socket)
        assert socket.close_code == 1006
