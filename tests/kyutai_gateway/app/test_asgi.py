"""The application by its ASGI messages alone: what servers send, and leave out."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np
import pytest

from kyutai_gateway.app import Gateway
from kyutai_gateway.logs import configure
from kyutai_gateway.stream import StreamRules
from kyutai_stream.testing.tones import VOCABULARY, Utterance

Open = Callable[..., Any]
Message = MutableMapping[str, Any]

SCOPE: Message = {"type": "websocket", "path": "/v1/stream", "headers": []}


class Client:
    """The server's side of one ASGI websocket, by hand."""

    def __init__(self) -> None:
        self._in, self._inbox = anyio.create_memory_object_stream[Message](10_000)
        self.sent: list[Message] = []
        self.blocked: anyio.Event | None = None
        self.gone: type[Exception] | None = None
        self.news = anyio.Event()

    async def receive(self) -> Message:
        return await self._inbox.receive()

    def end(self) -> None:
        self._in.close()
        self._inbox.close()

    async def send(self, message: Message) -> None:
        if self.blocked is not None:
            await self.blocked.wait()
        if self.gone is not None:
            raise self.gone("gone")
        self.sent.append(message)
        self.news.set()
        self.news = anyio.Event()

    def say(self, **message: Any) -> None:
        self._in.send_nowait(message)

    def audio(self, data: bytes) -> None:
        self.say(type="websocket.receive", bytes=data)

    @property
    def told(self) -> list[Message]:
        return [json.loads(one["text"]) for one in self.sent if "text" in one]

    @property
    def kinds(self) -> list[str]:
        return [one["type"] for one in self.told]

    @property
    def close(self) -> Message:
        return self.sent[-1]

    async def until(self, kind: str, seconds: float = 30.0) -> None:
        with anyio.fail_after(seconds):
            while kind not in self.kinds:
                await self.news.wait()


@asynccontextmanager
async def calling(
    gateway: Gateway, scope: Message | None = None, seconds: float = 60.0
) -> AsyncIterator[Client]:
    """Call the application; leaving waits until it has returned."""
    client = Client()
    client.say(type="websocket.connect")
    async with anyio.create_task_group() as tasks:
        call = gateway(scope or dict(SCOPE), client.receive, client.send)
        tasks.start_soon(lambda: call)
        yield client
        tasks.cancel_scope.deadline = anyio.current_time() + seconds
    client.end()
    assert not tasks.cancel_scope.cancelled_caught, "it did not return"


@pytest.mark.parametrize(
    "disconnect",
    [
        {"type": "websocket.disconnect"},
        {"type": "websocket.disconnect", "code": None, "reason": None},
        {"type": "websocket.disconnect", "code": 1005},
    ],
)
async def test_a_disconnect_ends_it(disconnect: Message, bench: Open) -> None:
    async with bench() as it:
        async with calling(it.gateway, seconds=3) as client:
            await client.until("ready")
            client.say(**disconnect)
        assert client.close["type"] == "websocket.send"
        assert it.gateway.metrics.ended == {"gone": 1}
        await it.moshi.wait_until(lambda: it.moshi.used_slots == 0)


async def test_a_disconnect_before_the_model_is_ready(bench: Open) -> None:
    async with bench() as it:
        async with calling(it.gateway, seconds=3) as client:
            client.say(type="websocket.disconnect")
        assert it.gateway.used == 0


async def test_strange_messages_are_no_failure(bench: Open, spoken: Utterance) -> None:
    async with bench() as it:
        async with calling(it.gateway, seconds=20) as client:
            await client.until("ready")
            client.say(type="websocket.receive")
            client.say(type="websocket.receive", bytes=None, text=None)
            client.say(type="websocket.holiday", bytes=b"abc")
            client.say()
            data = spoken.samples.astype("<f4").tobytes()
            client.say(type="websocket.receive", bytes=bytearray(data[:1001]))
            client.say(type="websocket.receive", bytes=memoryview(data)[1001:])
            client.say(type="websocket.receive", bytes=None, text='{"type":"eos"}')
        assert client.kinds.count("token") == 5
        assert "error" not in client.kinds
        close = {"type": "websocket.close", "code": 1000, "reason": "end"}
        assert client.close == close


async def test_scopes_may_be_bare(bench: Open) -> None:
    async with bench(auth="bearer", bearer="x") as it:
        async with calling(it.gateway, {"type": "websocket"}, 1) as client:
            pass
        # Without the extension servers make a 403 of it.
        assert client.sent == [{"type": "websocket.close"}]
        scope = {"type": "websocket", "extensions": {"websocket.http.response": {}}}
        async with calling(it.gateway, scope, 1) as client:
            pass
        assert client.sent[0]["type"] == "websocket.http.response.start"
        assert client.sent[0]["status"] == 401
        assert client.sent[1]["type"] == "websocket.http.response.body"
        async with calling(it.gateway, {"type": "http"}, 1) as client:
            pass
        assert client.sent[0]["status"] == 404
        async with calling(it.gateway, {"type": "teapot"}, 1) as client:
            pass
        assert client.sent == []


@pytest.mark.parametrize("error", [OSError, RuntimeError])
async def test_a_send_that_fails_is_a_client_gone(
    error: type[Exception], bench: Open
) -> None:
    async with bench() as it:
        async with calling(it.gateway, seconds=5) as client:
            await client.until("ready")
            client.gone = error
            client.audio(bytes(7680))
        assert it.gateway.metrics.ended == {"gone": 1}


async def test_a_client_that_does_not_read_is_left(
    bench: Open, spoken: Utterance
) -> None:
    """And what it has not read is bounded, as is what is taken from it."""
    rules = StreamRules(send_timeout_s=15, outbox_messages=64)
    async with bench(rules=rules) as it:
        async with calling(it.gateway) as client:
            await client.until("ready")
            client.blocked = anyio.Event()
            began = anyio.current_time()
            for _ in range(2000):
                client.audio(spoken.samples[:1920].astype("<f4").tobytes())
            (shell,) = it.gateway.streams.shells
            with anyio.fail_after(30):
                while it.gateway.used:
                    assert len(shell.machine.outbox) <= 64 + 8
                    await anyio.sleep(0.5)
            assert 15 <= anyio.current_time() - began < 35
            assert shell.machine.samples < 1000 * 1920
        assert it.gateway.metrics.ended == {"not_read": 1}
        assert it.upstream.suspected == 0


async def test_a_slow_client_loses_nothing(bench: Open, spoken: Utterance) -> None:
    async with bench() as it:
        async with calling(it.gateway) as client:
            await client.until("ready")
            data = spoken.samples.astype("<f4").tobytes()
            for at in range(0, len(data), 7680):
                client.audio(data[at : at + 7680])
            client.audio(b"EOS")
            for _ in range(5):
                client.blocked = anyio.Event()
                await anyio.sleep(9)
                client.blocked.set()
                client.blocked = None
                await anyio.sleep(0.05)
            await client.until("end")
        assert client.kinds.count("token") == 5


async def test_a_bug_is_told_and_survived(
    bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise ValueError("speech in here")

    output = io.StringIO()
    configure("debug", output)
    async with bench() as it:
        async with calling(it.gateway, seconds=5) as client:
            await client.until("ready")
            (shell,) = it.gateway.streams.shells
            monkeypatch.setattr(shell.machine, "binary", explode)
            client.audio(bytes(7680))
        assert client.told[-1]["code"] == "internal"
        assert client.close["code"] == 1011
        assert it.gateway.used == 0
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    (closed,) = [line for line in lines if line["event"] == "stream_closed"]
    assert closed["error"] == "ValueError"
    assert "speech" not in output.getvalue()


async def test_a_cancelled_call_frees_everything(bench: Open) -> None:
    async with bench() as it:
        client = Client()
        client.say(type="websocket.connect")
        async with anyio.create_task_group() as tasks:
            call = it.gateway(dict(SCOPE), client.receive, client.send)
            tasks.start_soon(lambda: call)
            await client.until("ready")
            tasks.cancel_scope.cancel()
        client.end()
        assert it.gateway.used == 0
        assert client.close["type"] == "websocket.send"
        await it.moshi.wait_until(lambda: it.moshi.used_slots == 0)


@pytest.fixture(autouse=True)
def logging_as_before() -> Any:
    root, ours = logging.getLogger(), logging.getLogger("kyutai_gateway")
    before = (list(root.handlers), root.level, ours.level)
    yield
    root.handlers[:], root.level = before[0], before[1]
    ours.setLevel(before[2])


async def test_logs_hold_no_speech_and_no_keys(bench: Open, spoken: Utterance) -> None:
    """Everything at DEBUG, also what goes wrong."""
    output = io.StringIO()
    configure("debug", output)
    settings = {"auth": "pair", "key": "wk-very", "secret": "ws-secret"}
    headers = [(b"modal-key", b"wk-very"), (b"modal-secret", b"ws-secret")]
    async with bench(**settings) as it:
        for end in ("eos", "cut", "nan"):
            scope = {**SCOPE, "headers": headers, "query_string": b"key=ws-secret"}
            async with calling(it.gateway, scope) as client:
                await client.until("ready")
                client.audio(spoken.samples.astype("<f4").tobytes())
                client.say(type="websocket.receive", text='{"say": "zulu"}')
                await client.until("token")
                if end == "eos":
                    client.audio(b"EOS")
                elif end == "cut":
                    it.moshi.cut_all()
                else:
                    client.audio(np.full(10, np.nan, dtype="<f4").tobytes())
        async with calling(it.gateway, dict(SCOPE), 1):
            pass
        await it.gateway.drain(1)
    written = output.getvalue()
    lines = [json.loads(line) for line in written.splitlines()]
    reasons = [one["reason"] for one in lines if one["event"] == "stream_closed"]
    assert reasons == ["end", "upstream_lost", "bad_audio"]
    for secret in (*VOCABULARY, "wk-very", "ws-secret"):
        assert secret not in written.lower()
    for line in lines:
        assert {"ts", "level", "event"} <= line.keys()
