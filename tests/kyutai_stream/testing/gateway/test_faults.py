"""What goes wrong before the upgrade, at the start and later."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, InvalidURI

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
KEY, SECRET = "wk-of-the-test", "ws-of-the-test"
CREDENTIALS = {"Modal-Key": KEY, "Modal-Secret": SECRET}


def of(messages: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] in kinds]


async def get(gateway: FakeGateway, path: str, extra: str = "") -> tuple[int, str]:
    """A plain HTTP request on the loop of the test."""
    async with await anyio.connect_tcp("127.0.0.1", gateway.port) as stream:
        await stream.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode())
        answer = b""
        try:
            while True:
                answer += await stream.receive()
        except anyio.EndOfStream:
            pass
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body.strip()


async def refused(gateway: FakeGateway, headers: dict[str, str] | None = None) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(gateway.url, additional_headers=headers):
            pass
    return caught.value.response.status_code


async def test_credentials() -> None:
    async with FakeGateway(key=KEY, secret=SECRET) as gateway:
        assert await refused(gateway) == 401
        assert await refused(gateway, {"Modal-Key": KEY, "Modal-Secret": "no"}) == 401
        assert await refused(gateway, {"Authorization": "Bearer no"}) == 401
        bearer = {"Authorization": f"Bearer {KEY}.{SECRET}"}
        for good in (CREDENTIALS, bearer):
            async with connect(gateway.url, additional_headers=good) as socket:
                await socket.recv()
        assert [one.status for one in gateway.handshakes] == [401, 401, 401, 101, 101]
        assert (await get(gateway, "/readyz"))[0] == 401
        told = repr(gateway.connections) + repr(gateway.handshakes)
        assert SECRET not in told
        assert gateway.connections[0].headers["modal-secret"] == SECRET


async def test_a_bearer_token() -> None:
    async with FakeGateway(bearer="of-our-own") as gateway:
        assert await refused(gateway) == 401
        headers = {"Authorization": "Bearer of-our-own"}
        async with connect(gateway.url, additional_headers=headers) as socket:
            await socket.recv()


def test_half_credentials_are_refused() -> None:
    with pytest.raises(ValueError, match="belong together"):
        FakeGateway(key=KEY)


@pytest.mark.parametrize("status", [403, 404, 429, 503])
async def test_answers_before_the_upgrade(status: int) -> None:
    plan = Attempt(status=status, headers={"Retry-After": "7"})
    async with FakeGateway(attempts=[plan]) as gateway:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(gateway.url):
                pass
        assert caught.value.response.status_code == status
        assert caught.value.response.headers["Retry-After"] == "7"
        async with connect(gateway.url) as socket:
            assert json.loads(await socket.recv())["type"] == "ready"


async def test_a_redirect_after_the_queue_was_too_long() -> None:
    location = "https://example.invalid/v1/stream?__modal_function_call_id=fc-1"
    plan = Attempt(handshake_s=150.0, status=303, headers={"Location": location})
    async with FakeGateway(attempts=[plan]) as gateway:
        began = anyio.current_time()
        with pytest.raises(InvalidURI):
            async with connect(gateway.url, open_timeout=None):
                pass
        assert anyio.current_time() - began == pytest.approx(150, abs=0.1)


async def test_unknown_paths_are_404() -> None:
    async with FakeGateway() as gateway:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(gateway.url + "s"):
                pass
        assert caught.value.response.status_code == 404


async def test_a_cold_function_lets_handshakes_wait(hear: Hear) -> None:
    async with FakeGateway(cold_start_s=60.0) as gateway:
        began = anyio.current_time()
        async with connect(gateway.url, open_timeout=None):
            assert anyio.current_time() - began == pytest.approx(60, abs=0.1)
        async with connect(gateway.url):
            assert anyio.current_time() - began == pytest.approx(60, abs=0.1)


async def test_a_cold_server_answers_503_until_it_is_warm() -> None:
    async with FakeGateway(cold_start_s=60.0, edge="server") as gateway:
        assert await get(gateway, "/v1/warm") == (503, "starting")
        assert await refused(gateway) == 503
        await anyio.sleep(61)
        assert await get(gateway, "/v1/warm") == (200, '{"ready": true}')
        async with connect(gateway.url):
            pass


async def test_a_cold_function_lets_pages_wait() -> None:
    async with FakeGateway(cold_start_s=60.0) as gateway:
        began = anyio.current_time()
        assert await get(gateway, "/v1/warm") == (200, '{"ready": true}')
        assert anyio.current_time() - began == pytest.approx(60, abs=0.1)
        assert (await get(gateway, "/readyz"))[0] == 200


async def test_older_gateways_have_no_page_to_warm_them() -> None:
    async with FakeGateway("gen3", cold_start_s=60.0) as gateway:
        assert (await get(gateway, "/v1/warm"))[0] == 404
        # It runs now all the same.
        assert (await get(gateway, "/readyz"))[0] == 200


async def test_leaving_ends_a_handshake_that_waits() -> None:
    async with anyio.create_task_group() as tasks:
        async with FakeGateway(cold_start_s=1000.0) as gateway:

            async def client() -> None:
                with pytest.raises(InvalidStatus):
                    async with connect(gateway.url, open_timeout=None):
                        pass

            tasks.start_soon(client)
            await anyio.sleep(1)
            assert gateway.handshakes[0].status is None
            began = anyio.current_time()
        assert anyio.current_time() - began < 10


async def test_capacity(hear: Hear) -> None:
    async with FakeGateway(slots=1) as gateway, connect(gateway.url) as first:
        await first.recv()
        async with connect(gateway.url) as second:
            (error,) = await hear(second)
            assert second.close_code == 1013
        assert (error["code"], error["retryable"]) == ("capacity", True)
        assert json.loads((await get(gateway, "/capacity"))[1]) == {
            "used": 1,
            "total": 1,
            "draining": False,
        }
        assert await get(gateway, "/readyz") == (503, "full")
        await first.close()
        await gateway.connections[0].wait_ended()
        async with connect(gateway.url) as third:
            assert json.loads(await third.recv())["type"] == "ready"


async def test_a_full_server_answers_429() -> None:
    gateway = FakeGateway(slots=1, edge="server")
    async with gateway, connect(gateway.url) as first:
        await first.recv()
        assert await refused(gateway) == 429


async def test_health_routes() -> None:
    async with FakeGateway() as gateway:
        assert await get(gateway, "/livez") == (200, "alive")
        assert await get(gateway, "/readyz") == (200, "ready")
        assert (await get(gateway, "/nowhere"))[0] == 404
        gateway.drain(Drain())
        assert await get(gateway, "/readyz") == (503, "draining")
        assert gateway.requests == ["/livez", "/readyz", "/nowhere", "/readyz"]
        assert gateway.handshakes == []


@pytest.mark.parametrize("dialect", ["protocol1", "gen1", "gen2", "gen3", "document"])
async def test_closed_before_the_first_message(
    dialect: DialectName, hear: Hear
) -> None:
    gateway = FakeGateway(dialect, attempts=[Attempt(close_first=1011)])
    async with gateway, connect(gateway.url) as socket:
        assert await hear(socket) == []
        assert socket.close_code == 1011


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
