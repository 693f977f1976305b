"""Streams through uvicorn, the app and the fake moshi-server, in virtual time."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack

import anyio
import pytest

from kyutai_gateway.upstream import UpstreamState
from kyutai_stream.testing.moshi_server import STT_2_6B, FakeMoshiServer, Model
from kyutai_stream.testing.tones import Utterance, speak

from .talk import EOS, FRAME, Hear, Messages, Open, ask, of, pcm, say, words

SILENCE = bytes(4 * 24_000)


async def test_acks_count_client_samples(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    async with bench() as it, it.connect() as socket:
        await say(socket, pcm(spoken))
        await socket.send(ask("flush", 1))
        acks = of(await hear(socket, 8), "ack")
    assert [len(ack["prs"]) for ack in acks] == [4] * len(acks)
    counted = [ack["samples"] for ack in acks]
    assert counted == sorted(counted)
    # Silence of the flush is processed, but never counted.
    assert counted[-1] == len(spoken.samples)
    assert counted.count(len(spoken.samples)) == 10
    assert acks[-1]["lag"] == 0
    assert acks[0]["lag"] > 0


@pytest.mark.parametrize("size", [1, 7, FRAME - 1, FRAME + 2, 10 * FRAME + 3])
async def test_any_chunking_arrives_as_it_was(
    size: int, bench: Open, spoken: Utterance, hear: Hear
) -> None:
    data = pcm(spoken)[: 4 * 2000 if size < 10 else None]
    moshi = FakeMoshiServer(keep_audio=True)
    async with bench(moshi=moshi) as it, it.connect() as socket:
        await say(socket, data, size)
        await socket.send(EOS)
        messages = await hear(socket)
        assert socket.close_code == 1000
        (connection,) = moshi.connections
        audio = connection.audio
    assert of(messages, "error") == []
    assert audio[: len(data) // 4].tobytes() == data
    assert not audio[len(data) // 4 :].any()
    assert len(audio) % 1920 == 0
    assert of(messages, "ack")[-1]["samples"] == len(data) // 4


async def test_without_acks(bench: Open, spoken: Utterance, hear: Hear) -> None:
    """The 2.6B model sends no steps and wants a second of silence first."""
    moshi = FakeMoshiServer(STT_2_6B, keep_audio=True)
    opened = bench(moshi=moshi, model="stt-2.6b-en")
    async with opened as it, it.connect() as socket:
        await say(socket, pcm(spoken))
        await socket.send(ask("flush", 3))
        messages = await hear(socket, 15)
        assert not moshi.connections[0].audio[:24_000].any()
    assert messages[0]["acks"] is False
    assert of(messages, "ack", "vad_end") == []
    assert words(messages) == spoken.text
    # Neither the first silence nor that of the flush counts.
    assert of(messages, "token")[0]["start"] == pytest.approx(0.3, abs=0.08)
    assert of(messages, "flushed") == [{"type": "flushed", "id": 3, "epoch": 0}]


async def test_the_pace_is_kept_when_nobody_says_anything(bench: Open) -> None:
    """A model without steps gets three frames in 80 ms, also when none comes."""
    moshi = FakeMoshiServer(STT_2_6B, keep_audio=True)
    opened = bench(moshi=moshi, model="stt-2.6b-en")
    async with opened as it, it.connect() as socket:
        await socket.recv()
        await socket.send(bytes(100 * 7680))
        await anyio.sleep(2.5)
        # A second of silence was first, and 25 frames need not wait.
        assert len(moshi.connections[0].audio) == 112 * 1920


async def test_a_reset_loses_no_word(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    """The words of the first epoch come out first, whatever is in the model."""
    async with bench() as it, it.connect() as socket:
        await say(socket, pcm(spoken))
        await socket.send(ask("reset", 4))
        await say(socket, pcm(spoken))
        await socket.send(ask("reset", 5))
        await socket.send(ask("flush", 6))
        messages = await hear(socket, 9)
    resets = [messages.index(one) for one in of(messages, "was_reset")]
    assert [(messages[at]["id"], messages[at]["epoch"]) for at in resets] == [
        (4, 1),
        (5, 2),
    ]
    first, second, third = (
        messages[: resets[0]],
        messages[resets[0] : resets[1]],
        messages[resets[1] :],
    )
    assert words(first) == words(second) == spoken.text
    assert of(second, "token")[0]["start"] == pytest.approx(0.3, abs=0.08)
    assert of(second, "ack")[-1]["samples"] == len(spoken.samples)
    assert of(third, "flushed") == [{"type": "flushed", "id": 6, "epoch": 2}]


async def test_a_muted_client_keeps_its_model(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    """moshi-server drops a stream 120 s after its last binary message."""
    async with bench() as it, it.connect() as socket:
        await say(socket, pcm(spoken))
        await socket.send(ask("flush", 1))
        for _ in range(20):
            await hear(socket, 20)
            await socket.send(b"")
        await say(socket, pcm(spoken))
        await socket.send(EOS)
        messages = await hear(socket, 10)
        assert socket.close_code == 1000
        assert len(it.moshi.connections) == 1
    assert words(messages) == spoken.text
    # 400 s of pause cost no time on the client's clock.
    expected = len(spoken.samples) / 24_000 + 0.3
    assert of(messages, "token")[0]["start"] == pytest.approx(expected, abs=0.08)


async def test_audio_waits_for_a_starting_model(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    async with (
        bench(state=UpstreamState.STARTING) as it,
        it.connect() as socket,
    ):
        await say(socket, pcm(spoken))
        await socket.send(EOS)
        early = await hear(socket, 45)
        assert {message["type"] for message in early} == {"ping"}
        assert it.moshi.connections == []
        it.upstream.become(UpstreamState.READY)
        messages = await hear(socket, 10)
        assert socket.close_code == 1000
    assert messages[0]["type"] == "ready"
    assert words(messages) == spoken.text


async def test_the_longest_message_is_audio(bench: Open, hear: Hear) -> None:
    async with bench(moshi=FakeMoshiServer(speed=math.inf)) as it:
        async with it.connect() as socket:
            await socket.send(bytes(2 * 1024 * 1024))
            await socket.send(EOS)
            acks = of(await hear(socket, 20), "ack")
            assert socket.close_code == 1000
    assert acks[-1]["samples"] == 2 * 1024 * 1024 // 4


async def test_sixty_streams(bench: Open, hear: Hear) -> None:
    said = ["alpha bravo charlie", "delta echo foxtrot", "golf hotel india"]
    heard: dict[int, Messages] = {}
    moshi = FakeMoshiServer(Model(batch_size=64), speed=3.0)
    async with bench(moshi=moshi, slots=60) as it, AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(it.connect()) for _ in range(60)]

        async def talk(number: int) -> None:
            data = pcm(speak(said[number % 3], lead_s=0.2, seed=number))
            for at in range(0, len(data), FRAME):
                await sockets[number].send(data[at : at + FRAME])
                await anyio.sleep(0.08)
            await sockets[number].send(EOS)
            heard[number] = await hear(sockets[number], 30)

        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(talk, number)
        assert [socket.close_code for socket in sockets] == [1000] * 60
    for number, messages in heard.items():
        assert words(messages) == said[number % 3]


async def test_a_slow_model_holds_the_client_back(bench: Open, hear: Hear) -> None:
    """Nothing is dropped, and little is held in the gateway."""
    async with bench(moshi=FakeMoshiServer(speed=10.0)) as it:
        async with it.connect() as socket:
            await hear(socket, 1)
            sent = 0
            with anyio.move_on_after(2.0):
                # 10 s of audio are taken, and what fits into sockets.
                while True:
                    await socket.send(SILENCE)
                    sent += 1
            assert sent < 150
            await socket.send(EOS)
            acks = of(await hear(socket, 60), "ack")
            assert socket.close_code == 1000
    assert acks[-1]["samples"] >= sent * 24_000
    assert max(ack["lag"] for ack in acks) <= (125 + 25 + 13) * 1920
