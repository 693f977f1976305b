"""How streams end: by age, silence, bad audio, a model or a client that is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from kyutai_gateway.stream import StreamRules
from kyutai_gateway.upstream import UpstreamState
from kyutai_stream.testing.moshi_server import ConnectionPlan, FakeMoshiServer
from kyutai_stream.testing.tones import Utterance

from .talk import EOS, FRAME, Hear, Messages, Open, of, pcm, say, words


@asynccontextmanager
async def in_speech(
    bench: Open, spoken: Utterance, hear: Hear
) -> AsyncIterator[tuple[Any, ClientConnection]]:
    """A gateway with a stream that has been heard for 3 s."""
    async with bench() as it, it.connect() as socket:
        await say(socket, pcm(spoken))
        await hear(socket, 3)
        yield it, socket


async def test_pings_keepalives_and_idle_timeout(bench: Open, hear: Hear) -> None:
    async with bench() as it, it.connect() as socket:
        heard: Messages = []
        for _ in range(6):
            heard += await hear(socket, 20)
            await socket.send(b"")
        assert len(of(heard, "ping")) in (11, 12)
        assert of(heard, "error", "ack") == []
        before = anyio.current_time()
        last = await hear(socket, 60)
        assert anyio.current_time() - before == pytest.approx(30, abs=0.2)
        assert of(last, "error")[0]["code"] == "idle_timeout"
        assert socket.close_code == 1000


@pytest.mark.parametrize("audio", [b"", bytes(FRAME)])
async def test_without_speech_it_ends(audio: bytes, bench: Open, hear: Hear) -> None:
    async with bench(quiet_timeout_s=60.0) as it, it.connect() as socket:
        before = anyio.current_time()
        messages: Messages = []
        while not of(messages, "error"):
            await socket.send(audio)
            messages += await hear(socket, 5)
            assert anyio.current_time() - before < 90
        assert anyio.current_time() - before == pytest.approx(60, abs=6)
        assert of(messages, "error")[0]["code"] == "idle_timeout"
        assert socket.close_code == 1000


async def test_speech_keeps_it_open(bench: Open, spoken: Utterance, hear: Hear) -> None:
    async with bench(quiet_timeout_s=20.0) as it, it.connect() as socket:
        for _ in range(10):
            await say(socket, pcm(spoken))
            assert of(await hear(socket, 10), "error") == []


async def test_it_rotates(bench: Open, spoken: Utterance, hear: Hear) -> None:
    """Words still in the model come out between the notice and the close."""
    rules = StreamRules(max_stream_s=20, rotation_notice_s=6, idle_timeout_s=30)
    async with bench(rules=rules) as it, it.connect() as socket:
        messages = await hear(socket, 19)
        await say(socket, pcm(spoken))
        began = anyio.current_time()
        messages = await hear(socket, 30)
        assert anyio.current_time() - began < 8
        assert socket.close_code == 1012
    assert of(messages, "draining") == [{"type": "draining", "deadline_s": 6.0}]
    assert words(messages) == spoken.text
    assert messages[-1]["code"] == "draining"
    assert messages[-1]["retryable"] is True


@pytest.mark.parametrize(
    ("state", "code", "within_s"),
    [
        (UpstreamState.FAILED, "upstream_lost", 1),
        (UpstreamState.STARTING, "upstream_lost", 121),
        (UpstreamState.WEDGED, "upstream_wedged", 121),
    ],
)
async def test_a_model_that_never_comes(
    state: UpstreamState, code: str, within_s: float, bench: Open, hear: Hear
) -> None:
    async with bench(state=state) as it, it.connect() as socket:
        before = anyio.current_time()
        messages = await hear(socket, 200)
        assert anyio.current_time() - before <= within_s
        assert socket.close_code == 1011
        assert it.upstream.suspected
    assert messages[-1]["code"] == code
    assert messages[-1]["retryable"] is True


async def test_no_place_is_said_before_the_model_is_asked(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    async with bench(slots=1) as it:
        async with it.connect() as socket, it.connect() as second:
            messages = await hear(second)
            assert second.close_code == 1013
            assert [one["type"] for one in messages] == ["error"]
            assert messages[0]["code"] == "capacity"
            assert messages[0]["retryable"] is True
            assert len(it.moshi.connections) <= 1
            await say(socket, pcm(spoken))
            await socket.send(EOS)
            assert words(await hear(socket)) == spoken.text
        await it.moshi.wait_until(lambda: it.moshi.used_slots == 0)
        async with it.connect() as third:
            assert (await hear(third, 2))[0]["type"] == "ready"


async def test_a_full_model_server(bench: Open, hear: Hear) -> None:
    async with bench() as it:
        it.moshi.full = True
        async with it.connect() as socket:
            messages = await hear(socket)
            assert socket.close_code == 1013
        assert [one["code"] for one in messages] == ["capacity"]
        assert it.upstream.suspected == 0
        await it.empty()


async def test_a_lost_model_is_told_at_once(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    async with in_speech(bench, spoken, hear) as (it, socket):
        it.moshi.cut_all()
        before = anyio.current_time()
        messages = await hear(socket, 20)
        assert anyio.current_time() - before < 1
        assert socket.close_code == 1011
        assert it.upstream.suspected == 1
    assert messages[-1]["code"] == "upstream_lost"
    assert messages[-1]["retryable"] is True


async def test_a_wedged_model_is_found_out(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    async with in_speech(bench, spoken, hear) as (it, socket):
        it.moshi.stall()
        before = anyio.current_time()
        await say(socket, pcm(spoken))
        messages = await hear(socket, 30)
        assert anyio.current_time() - before == pytest.approx(8.5, abs=0.3)
        assert socket.close_code == 1011
        assert it.upstream.suspected == 1
    assert messages[-1]["code"] == "upstream_wedged"


async def test_a_model_that_is_not_asked_is_not_wedged(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    async with in_speech(bench, spoken, hear) as (it, socket):
        it.moshi.stall()
        assert of(await hear(socket, 25), "error") == []


async def test_no_ready_is_a_lost_model(bench: Open, hear: Hear) -> None:
    moshi = FakeMoshiServer(plans=[ConnectionPlan(wedged=True)])
    async with bench(moshi=moshi) as it, it.connect() as socket:
        messages = await hear(socket, 20)
        assert socket.close_code == 1011
        assert messages[-1]["code"] == "upstream_lost"
        assert it.upstream.suspected == 1


async def test_a_long_message_is_refused_and_others_go_on(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    async with bench() as it, it.connect() as socket, it.connect() as bad:
        await say(socket, pcm(spoken))
        await bad.send(bytes(2 * 1024 * 1024 + 4))
        messages = await hear(bad)
        assert bad.close_code == 1009
        assert messages[-1]["code"] == "bad_audio"
        async with it.connect() as worse:
            await hear(worse, 1)
            with suppress(ConnectionClosed):
                await worse.send(bytes(5 * 1024 * 1024))
            await hear(worse)
            assert worse.close_code == 1009
        await socket.send(EOS)
        assert words(await hear(socket)) == spoken.text
        await it.empty()


@pytest.mark.parametrize(
    "garbage",
    [
        np.full(3, np.nan, dtype="<f4").tobytes(),
        np.full(1920, np.inf, dtype="<f4").tobytes(),
        (np.sin(np.arange(24_000) / 10) * 9000).astype("<i2").tobytes(),
        (np.sin(np.arange(24_000) / 10) * 9000).astype("<f4").tobytes(),
    ],
)
async def test_garbage_is_bad_audio(garbage: bytes, bench: Open, hear: Hear) -> None:
    async with bench() as it, it.connect() as socket:
        await socket.send(garbage)
        messages = await hear(socket)
        assert socket.close_code == 1003
    assert of(messages, "error")[-1]["code"] == "bad_audio"
    assert of(messages, "error")[-1]["retryable"] is False


async def test_a_client_that_vanishes_frees_its_place(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    async with bench(slots=1) as it:
        async with it.connect() as socket:
            await say(socket, pcm(spoken)[: 10 * FRAME])
            await hear(socket, 1)
            socket.transport.abort()
        await it.moshi.wait_until(lambda: it.moshi.used_slots == 0)
        await it.empty()
        assert it.gateway.metrics.ended == {"gone": 1}


async def test_a_client_that_closes_its_half(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    async with bench(slots=1) as it:
        async with it.connect() as socket:
            await hear(socket, 1)
            socket.transport.write_eof()
            await hear(socket, 60)
        await it.empty()
        assert it.gateway.metrics.ended == {"gone": 1}
