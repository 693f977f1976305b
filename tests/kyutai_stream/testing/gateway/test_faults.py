"""What goes wrong at the start and later."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import numpy as np
import pytest
from websockets.asyncio.client import connect

from kyutai_stream.testing.gateway import (
    Abort,
    At,
    Attempt,
    CloseWith,
    DialectName,
    Drain,
    Fail,
    FakeGateway,
    Garbage,
    HalfOpen,
    Incident,
    Resume,
    SendRaw,
    StaleEpoch,
    StopSteps,
    StopWords,
    Timers,
    UnknownMessages,
)
from kyutai_stream.testing.tones import Utterance

Hear = Callable[..., Awaitable[list[dict[str, Any]]]]
FRAME = np.zeros(1920, dtype="<f4").tobytes()


def of(messages: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] in kinds]


@pytest.mark.parametrize("dialect", ["protocol1", "gen1", "gen2", "gen3", "document"])
async def test_closed_before_the_first_message(
    dialect: DialectName, hear: Hear
) -> None:
    gateway = FakeGateway(dialect, attempts=[Attempt(close_first=1011)])
    async with gateway, connect(gateway.url) as socket:
        assert await hear(socket) == []
        assert socket.close_code == 1011


@pytest.mark.parametrize("code", [1005, 1006, 4001])
async def test_a_close_may_have_any_code_and_none(code: int, hear: Hear) -> None:
    gateway = FakeGateway()
    async with gateway, connect(gateway.url) as socket:
        await socket.recv()
        gateway.happen(CloseWith(code=code))
        assert await hear(socket) == []
        assert socket.close_code == code
        assert gateway.connections[0].closed == (code, "")


async def test_never_ready(hear: Hear) -> None:
    gateway = FakeGateway(attempts=[Attempt(never_ready=True)])
    async with gateway, connect(gateway.url) as socket:
        await socket.send(FRAME)
        # And nobody is called idle meanwhile.
        assert {one["type"] for one in await hear(socket, 95)} == {"ping"}
        assert gateway.connections[0].frames == 1


async def test_ready_late_loses_no_audio(spoken: Utterance, hear: Hear) -> None:
    gateway = FakeGateway(attempts=[Attempt(ready_s=9.0)])
    async with gateway, connect(gateway.url) as socket:
        await socket.send(spoken.samples.astype("<f4").tobytes())
        await socket.send(b"EOS")
        assert await hear(socket, 8.5) == []
        messages = await hear(socket)
    assert messages[0]["type"] == "ready"
    assert len(of(messages, "token")) == len(spoken.words)


@pytest.mark.parametrize(
    ("code", "close"),
    [
        ("upstream_lost", 1011),
        ("upstream_wedged", 1011),
        ("internal", 1011),
        ("idle_timeout", 1000),
        ("draining", 1012),
        ("capacity", 1013),
    ],
)
async def test_errors_are_told_before_the_close(
    code: str, close: int, hear: Hear
) -> None:
    plan = Attempt(incidents=(At(frame=5, incident=Fail(code=code)),))
    async with (
        FakeGateway(attempts=[plan]) as gateway,
        connect(gateway.url) as socket,
    ):
        for _ in range(5):
            await socket.send(FRAME)
        messages = await hear(socket)
        assert socket.close_code == close
        assert messages[-1]["type"] == "error"
        assert messages[-1]["code"] == code
        assert messages[-1]["retryable"] is True
        assert of(messages, "ack")[-1]["samples"] == 5 * 1920
        await gateway.connections[0].wait_ended()
        assert gateway.connections[0].closed == (close, code)


@pytest.mark.parametrize(
    ("incident", "close"),
    [(Abort(), 1006), (CloseWith(code=1011), 1011), (CloseWith(code=4503), 4503)],
)
async def test_ends_without_a_word(incident: Incident, close: int, hear: Hear) -> None:
    plan = Attempt(incidents=(At(after_s=3.0, incident=incident),))
    async with (
        FakeGateway(attempts=[plan], time_scale=0.1) as gateway,
        connect(gateway.url) as socket,
    ):
        began = anyio.current_time()
        assert of(await hear(socket), "error") == []
        assert anyio.current_time() - began == pytest.approx(0.3, abs=0.05)
        assert socket.close_code == close


async def test_draining_tells_flushes_and_closes(spoken: Utterance, hear: Hear) -> None:
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        await socket.send(spoken.samples.astype("<f4").tobytes())
        await hear(socket, 1)
        gateway.drain(Drain(deadline_s=5.0))
        began = anyio.current_time()
        messages = await hear(socket, 60)
        assert anyio.current_time() - began == pytest.approx(5, abs=0.1)
        assert socket.close_code == 1012
        assert messages[0] == {"type": "draining", "deadline_s": 5.0}
        assert [one["text"] for one in of(messages, "token")] == [" november"]
        assert messages[-1]["code"] == "draining"
        async with connect(gateway.url) as late:
            (error,) = await hear(late)
            assert error["code"] == "draining"
            assert late.close_code == 1012


async def test_half_open(hear: Hear) -> None:
    """Nothing comes, nothing is read, pings stay unanswered, for ever."""
    async with FakeGateway() as gateway:
        async with connect(gateway.url, ping_interval=None) as socket:
            await hear(socket, 1)
            gateway.happen(HalfOpen())
            await hear(socket, 1)
            pong = await socket.ping()
            with anyio.move_on_after(60) as scope:
                await pong
            assert scope.cancelled_caught
            assert gateway.used == 1
            sent = 0
            with anyio.move_on_after(10):
                while True:
                    await socket.send(FRAME * 50)
                    sent += 50
            # The buffers of the kernel are full.
            assert sent < 5000
            assert gateway.connections[0].frames == 0
            gateway.connections[0].abort()
            await hear(socket)
            assert socket.close_code == 1006


async def test_stalls(spoken: Utterance, hear: Hear) -> None:
    speech = spoken.samples.astype("<f4").tobytes()
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        await hear(socket, 1)
        gateway.happen(StopWords())
        await socket.send(speech)
        messages = await hear(socket, 1)
        assert {one["type"] for one in messages} == {"ack"}
        gateway.happen(StopSteps())
        await hear(socket, 1)
        await socket.send(speech)
        assert {one["type"] for one in await hear(socket, 25)} == {"ping"}
        gateway.happen(Resume())
        acks = of(await hear(socket, 1), "ack")
        assert acks[-1]["lag"] < 1920


async def test_strange_messages(spoken: Utterance, hear: Hear) -> None:
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        await socket.send(spoken.samples.astype("<f4").tobytes())
        told = of(await hear(socket, 1), "token")
        gateway.happen(UnknownMessages())
        strange = await hear(socket, 1)
        assert [one["type"] for one in strange] == ["hologram", "ping"]
        gateway.happen(StaleEpoch())
        stale = await hear(socket, 1)
        assert [one["text"] for one in stale] == [one["text"] for one in told[-3:]]
        assert {one["epoch"] for one in stale} == {-1}
        gateway.happen(Garbage())
        garbage = [await socket.recv() for _ in range(6)]
        assert any(isinstance(one, bytes) for one in garbage)
        gateway.happen(SendRaw(message="x" * 1000))
        assert await socket.recv() == "x" * 1000
        # And it still works.
        await socket.send(b"EOS")
        assert (await hear(socket))[-1] == {"type": "end"}


async def test_timers_can_be_shortened(hear: Hear) -> None:
    async with FakeGateway(time_scale=0.01) as gateway, connect(gateway.url) as socket:
        began = anyio.current_time()
        messages = await hear(socket)
        assert anyio.current_time() - began == pytest.approx(0.3, abs=0.05)
        assert len(of(messages, "ping")) in (2, 3)
    off = FakeGateway(timers=Timers())
    async with off, connect(off.url) as socket:
        assert await hear(socket, 3600) == [json.loads(off_ready(off))]


def off_ready(gateway: FakeGateway) -> str:
    """The only message of a gateway without timers."""
    assert gateway.connections[0].sent == {"ready": 1}
    return json.dumps(
        {
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
    )


async def test_messages_over_2_mib_are_too_big(hear: Hear) -> None:
    async with FakeGateway() as gateway, connect(gateway.url) as socket:
        await socket.send(bytes(2 * 1024 * 1024 + 4))
        await hear(socket)
        assert socket.close_code == 1009


async def test_the_same_port_again() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with FakeGateway() as gateway:
            socket = await stack.enter_async_context(connect(gateway.url))
            await socket.recv()
            port = gateway.port
        await socket.wait_closed()
        assert socket.close_code == 1006
    async with FakeGateway(port=port) as again, connect(again.url) as socket:
        assert json.loads(await socket.recv())["type"] == "ready"
