"""Protocol 1 over a real websocket, without the client library."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import numpy as np
import pytest
from attrs import evolve
from websockets.asyncio.client import ClientConnection, connect

from kyutai_stream.testing.gateway import FakeGateway
from kyutai_stream.testing.moshi_server import (
    STT_1B,
    STT_2_6B,
    Redecoding,
    ScriptedRecogniser,
)
from kyutai_stream.testing.tones import HeardWord, Utterance

Hear = Callable[..., Awaitable[list[dict[str, Any]]]]

EOS = json.dumps({"type": "eos"})
SILENCE = np.zeros(24_000, dtype="<f4").tobytes()


def of(messages: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] in kinds]


def flush(number: int) -> str:
    return json.dumps({"type": "flush", "id": number})


async def say(socket: ClientConnection, spoken: Utterance, size: int = 1920) -> None:
    data = spoken.samples.astype("<f4").tobytes()
    for at in range(0, len(data), 4 * size):
        await socket.send(data[at : at + 4 * size])


async def test_a_whole_conversation(spoken: Utterance, hear: Hear) -> None:
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        await say(socket, spoken)
        await socket.send(EOS)
        messages = await hear(socket)
        assert socket.close_code == 1000
    assert messages[0] == {
        "type": "ready",
        "protocol": 1,
        "model": "fake",
        "sample_rate": 24_000,
        "frame_samples": 1920,
        "delay_ms": 480,
        "languages": ["en", "fr"],
        "acks": True,
        "pause_horizons_s": [0.5, 1.0, 2.0, 3.0],
    }
    assert messages[-1] == {"type": "end"}
    tokens = of(messages, "token")
    assert "".join(token["text"] for token in tokens) == f" {spoken.text}"
    for number, (token, word) in enumerate(zip(tokens, spoken.words, strict=True)):
        assert token["index"] == number
        assert token["epoch"] == 0
        assert (token["final"], token["vad_end"]) == (False, False)
        assert token["start"] == pytest.approx(word.start, abs=0.08)
    ends = of(messages, "word_end")
    # The end of a word is the onset of the next; that of the last is never known.
    assert [end["index"] for end in ends] == [0, 1, 2, 3]
    assert [end["end"] for end in ends] == [token["start"] for token in tokens[1:]]


async def test_acks_count_client_samples(spoken: Utterance, hear: Hear) -> None:
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        await say(socket, spoken)
        await socket.send(flush(1))
        acks = of(await hear(socket), "ack")
        assert [len(ack["prs"]) for ack in acks] == [4] * len(acks)
        counted = [ack["samples"] for ack in acks]
        assert counted == sorted(counted)
        # Silence of the flush is processed, but never counted.
        assert counted[-1] == len(spoken.samples)
        assert counted.count(len(spoken.samples)) == 10
        assert acks[-1]["lag"] == 0
        assert gateway.connections[0].samples == len(spoken.samples)


async def test_words_come_only_with_further_audio(
    spoken: Utterance, hear: Hear
) -> None:
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        await say(socket, spoken)
        assert len(of(await hear(socket), "token")) == 4
        await socket.send(flush(5))
        late = await hear(socket)
        assert [token["text"] for token in of(late, "token")] == [" november"]
        assert late[-1] == {"type": "flushed", "id": 5, "epoch": 0}


async def test_injected_silence_moves_no_times(spoken: Utterance, hear: Hear) -> None:
    """Flushed in the middle of a frame, twice: times are those of the client."""
    cut = round(1.75 * 24_000) + 100
    data = spoken.samples.astype("<f4").tobytes()
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        await socket.send(data[: 4 * cut])
        await socket.send(flush(1))
        await socket.send(flush(2))
        await socket.send(data[4 * cut :])
        await socket.send(EOS)
        messages = await hear(socket)
    tokens = of(messages, "token")
    assert [token["start"] for token in tokens] == pytest.approx(
        [word.start for word in spoken.words], abs=0.08
    )
    assert of(messages, "ack")[-1]["samples"] == len(spoken.samples)
    assert [one["id"] for one in of(messages, "flushed")] == [1, 2]


@pytest.mark.parametrize("size", [1, 7, 4 * 1920 - 1, 4 * 1920 + 2])
async def test_any_chunking_says_the_same(
    size: int, spoken: Utterance, hear: Hear
) -> None:
    data = spoken.samples[: 2 * 24_000].astype("<f4").tobytes()
    if size < 10:
        data = data[: 4 * 2000]
    async with FakeGateway(keep_audio=True) as gateway, connect(gateway.url) as socket:
        for at in range(0, len(data), size):
            await socket.send(data[at : at + size])
        await socket.send(EOS)
        messages = await hear(socket)
        assert socket.close_code == 1000
        assert gateway.connections[0].audio.tobytes() == data
    assert of(messages, "error") == []
    assert of(messages, "ack")[-1]["samples"] == len(data) // 4


async def test_left_over_bytes_at_the_end_are_bad_audio(hear: Hear) -> None:
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        await socket.send(SILENCE[:-1])
        await socket.send(b"EOS")
        messages = await hear(socket)
        assert socket.close_code == 1000
    (error,) = of(messages, "error")
    assert (error["code"], error["retryable"]) == ("bad_audio", False)
    assert messages[-1] == {"type": "end"}


async def test_numbers_that_are_none_are_bad_audio(hear: Hear) -> None:
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        await socket.send(np.full(10, np.nan, dtype="<f4").tobytes())
        assert of(await hear(socket), "error")[0]["code"] == "bad_audio"
        assert socket.close_code == 1003


@pytest.mark.parametrize(
    "control",
    [
        "nonsense",
        "[]",
        "{}",
        '{"type": "dance"}',
        '{"type": "flush", "id": "x"}',
        '{"type": "reset", "id": true}',
        "[" * 100_000,
    ],
)
async def test_unknown_controls_are_answered_and_survived(
    control: str, hear: Hear
) -> None:
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        await socket.send(control)
        await socket.send(flush(9))
        messages = await hear(socket)
    assert [message["type"] for message in messages] == ["ready", "error", "flushed"]
    assert messages[1]["code"] == "bad_control"
    assert messages[1]["retryable"] is True


async def test_vad_end_once_for_each_pause_and_after_the_words(
    spoken: Utterance, hear: Hear
) -> None:
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        await say(socket, spoken)
        await socket.send(SILENCE * 3)
        messages = await hear(socket)
    assert of(messages, "vad_end") == [
        {"type": "vad_end", "text": "", "final": True, "vad_end": True, "epoch": 0}
        | {"at": one["at"]}
        for one in of(messages, "vad_end")
    ]
    order = [message["type"] for message in of(messages, "token", "vad_end")]
    assert order == ["token"] * 3 + ["vad_end"] + ["token"] * 2 + ["vad_end"]


async def test_reset_starts_an_epoch(spoken: Utterance, hear: Hear) -> None:
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        await say(socket, spoken)
        await socket.send(json.dumps({"type": "reset", "id": 4}))
        await say(socket, spoken)
        await socket.send(flush(1))
        messages = await hear(socket)
    at = messages.index({"type": "was_reset", "id": 4, "epoch": 1})
    assert all(one.get("epoch", 0) == 0 for one in messages[:at])
    after = messages[at:]
    assert {one["epoch"] for one in after if one["type"] != "ready"} == {1}
    assert [one["index"] for one in of(after, "token")] == [0, 1, 2, 3, 4]
    assert of(after, "ack")[0]["samples"] == 1920
    assert of(after, "token")[0]["start"] == pytest.approx(0.3, abs=0.08)
    assert after[-1] == {"type": "flushed", "id": 1, "epoch": 1}


async def test_pings_are_data_and_empty_messages_keep_alive(hear: Hear) -> None:
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        heard = []
        for _ in range(6):
            heard += await hear(socket, 20)
            await socket.send(b"")
        assert len(of(heard, "ping")) in (11, 12)
        assert of(heard, "error", "ack") == []
        # And without: 30 s.
        before = anyio.current_time()
        last = await hear(socket, 60)
        assert anyio.current_time() - before == pytest.approx(30, abs=0.1)
        assert of(last, "error")[0]["code"] == "idle_timeout"
        assert gateway.connections[0].keepalives == 6
        assert socket.close_code == 1000


async def test_speed_sets_the_pace_and_lag_tells_it(
    spoken: Utterance, hear: Hear
) -> None:
    async with FakeGateway(speed=3.0) as gateway, connect(gateway.url) as socket:
        began = anyio.current_time()
        await say(socket, spoken)
        await socket.send(EOS)
        acks = of(await hear(socket, 60), "ack")
        took = anyio.current_time() - began
    assert took == pytest.approx(len(acks) * 0.08 / 3, rel=0.05)
    assert max(ack["lag"] for ack in acks) > 10 * 1920
    lags = [ack["lag"] for ack in acks[5:]]
    assert lags == sorted(lags, reverse=True)
    assert lags[-1] == 0


async def test_a_slow_model_pushes_back(hear: Hear) -> None:
    """More than two minutes of audio inside stop the reading, nothing is lost."""
    async with FakeGateway(speed=100.0) as gateway, connect(gateway.url) as socket:
        for _ in range(150):
            await socket.send(SILENCE)
        await socket.send(EOS)
        acks = of(await hear(socket, 60), "ack")
    assert acks[-1]["samples"] == 150 * 24_000
    assert max(ack["lag"] for ack in acks) <= (1500 + 13) * 1920


async def test_a_script_instead_of_tones(hear: Hear) -> None:
    words = [HeardWord(text="Bonjour,", start=0.2, end=0.5)]
    async with (
        FakeGateway(listen=lambda: ScriptedRecogniser(words)) as gateway,
        connect(gateway.url) as socket,
    ):
        await socket.send(SILENCE)
        await socket.send(EOS)
        tokens = of(await hear(socket), "token")
    assert [(token["text"], token["start"]) for token in tokens] == [
        (" Bonjour,", pytest.approx(0.2, abs=0.05))
    ]


async def test_without_acks(spoken: Utterance, hear: Hear) -> None:
    """The 2.6B model has no pause heads and sends no steps."""
    async with FakeGateway(model=STT_2_6B) as gateway, connect(gateway.url) as socket:
        await say(socket, spoken)
        await socket.send(flush(1))
        messages = await hear(socket)
    assert messages[0]["acks"] is False
    assert messages[0]["delay_ms"] == 2560
    assert messages[0]["pause_horizons_s"] == []
    assert of(messages, "ack", "vad_end") == []
    assert len(of(messages, "token")) == 5
    assert messages[-1]["type"] == "flushed"


async def test_after_a_reconnect_it_hears_differently(
    spoken: Utterance, hear: Hear
) -> None:
    model = evolve(STT_1B, redecoding=Redecoding(split_probability=1.0))
    async with FakeGateway(model=model) as gateway:
        said = []
        for _ in range(2):
            async with connect(gateway.url) as socket:
                await say(socket, spoken)
                await socket.send(EOS)
                said.append(of(await hear(socket), "token"))
    exact, again = said
    assert len(again) < len(exact) == len(spoken.words)
    assert "".join(one["text"] for one in again) == f" {spoken.text}"
    assert all(
        any(abs(one["start"] - other["start"]) <= 0.17 for other in exact)
        for one in again
    )
