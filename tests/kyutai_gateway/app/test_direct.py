"""Frames and words that wake no task: the same order, bounds and ends as without."""

from __future__ import annotations

import json
from typing import Any

import anyio
import numpy as np
import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed

from kyutai_gateway.stream import StreamMachine, StreamRules
from kyutai_gateway.uvicorn_direct import DirectWebSocket, websocket_class
from kyutai_stream.testing.tones import Utterance

from .talk import FRAME, Hear, Open, of


def wired(it: Any) -> list[Any]:
    """The server's side of all connections."""
    return list(it.serving._server.server_state.connections)


def test_this_uvicorn_is_known() -> None:
    assert websocket_class() is DirectWebSocket


def test_another_uvicorn_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from uvicorn.protocols.websockets import websockets_sansio_impl as theirs

    monkeypatch.delattr(theirs.WebSocketsSansIOProtocol, "handle_bytes")
    assert websocket_class() == "websockets-sansio"
    assert uvicorn.Config(lambda: None, ws=websocket_class())


async def test_frames_wake_no_task(bench: Open, spoken: Utterance, hear: Hear) -> None:
    """What the way is for: `receive` returns once, for the control message."""
    async with bench() as it, it.connect() as socket:
        await hear(socket, 1)
        (protocol,) = wired(it)
        queued: list[Any] = []
        put = protocol.queue.put_nowait

        def noted(item: Any) -> None:
            queued.append(item)
            put(item)

        protocol.queue.put_nowait = noted
        data = spoken.samples.astype("<f4").tobytes()
        for at in range(0, len(data), FRAME):
            await socket.send(data[at : at + FRAME])
            await anyio.sleep(0.08)
        await socket.send('{"type":"eos"}')
        messages = await hear(socket)
    kinds = [next(key for key in item if key != "type") for item in queued]
    assert kinds[0] == "text"
    assert "bytes" not in kinds
    assert "".join(one["text"] for one in of(messages, "token")) == f" {spoken.text}"


async def test_fragments_and_controls_keep_their_place(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    """The library reads some of the messages, we read others; all in one burst."""
    data = spoken.samples.astype("<f4").tobytes()
    third = len(data) // 3 // 4 * 4
    parts = data[:third], data[third : 2 * third], data[2 * third :]
    async with bench() as it, it.connect() as socket:
        await socket.send(parts[0])
        await socket.send([parts[1][:5000], parts[1][5000:9001], parts[1][9001:]])
        await socket.send(parts[2])
        await socket.send('{"type":"eos"}')
        messages = await hear(socket)
    assert "".join(one["text"] for one in of(messages, "token")) == f" {spoken.text}"
    assert of(messages, "ack")[-1]["samples"] == len(spoken.samples)


async def test_a_flush_between_frames_stays_between_them(
    bench: Open, hear: Hear
) -> None:
    frame = np.zeros(1920, "<f4").tobytes()
    async with bench() as it, it.connect() as socket:
        await hear(socket, 1)
        for number in range(3):
            await socket.send(frame)
            await socket.send(json.dumps({"type": "flush", "id": number}))
        await socket.send(frame)
        await socket.send('{"type":"eos"}')
        messages = await hear(socket)
    acked, at = 0, []
    for message in messages:
        acked = message.get("samples", acked)
        if message["type"] == "flushed":
            at.append((message["id"], acked))
    assert at == [(0, 1920), (1, 3840), (2, 5760)]


async def test_a_client_that_does_not_read_stops_the_model(
    bench: Open, hear: Hear
) -> None:
    """Nothing is lost or piled up: the model server waits until it reads again."""
    rules = StreamRules(send_timeout_s=60.0)
    frame = np.zeros(1920, "<f4").tobytes()
    async with bench(rules=rules) as it, it.connect() as socket:
        await hear(socket, 1)
        (protocol,) = wired(it)
        protocol.pause_writing()
        (shell,) = it.gateway.streams.shells
        for _ in range(100):
            await socket.send(frame)
        await anyio.sleep(5)
        assert 0 < len(shell.machine.outbox) <= rules.outbox_messages
        protocol.resume_writing()
        await socket.send('{"type":"eos"}')
        messages = await hear(socket)
    assert of(messages, "ack")[-1]["samples"] == 100 * 1920
    assert [one["samples"] for one in of(messages, "ack")] == sorted(
        one["samples"] for one in of(messages, "ack")
    )


@pytest.mark.parametrize("where", ["binary", "events"])
async def test_a_bug_is_told_and_survived(
    where: str, bench: Open, hear: Hear, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.zeros(1920, "<f4").tobytes()
    async with bench() as it:
        async with it.connect() as socket:
            await hear(socket, 1)

            def broken(*_: object, **__: object) -> None:
                raise ZeroDivisionError

            monkeypatch.setattr(StreamMachine, where, broken)
            await socket.send(frame)
            messages = await hear(socket)
            assert messages[-1]["code"] == "internal"
            assert socket.close_code == 1011
        monkeypatch.undo()
        await it.empty()
        async with it.connect() as socket:
            await hear(socket, 1)
            await socket.send(frame)
            assert (await hear(socket, 1))[0]["type"] == "ack"


async def test_what_breaks_the_protocol_ends_this_client_only(
    bench: Open, hear: Hear
) -> None:
    frame = np.zeros(1920, "<f4").tobytes()
    async with bench() as it, it.connect() as good, it.connect() as bad:
        await hear(bad, 1)
        await hear(good, 1)
        # An unmasked frame of a client (RFC 6455, 5.1).
        bad.transport.write(b"\x82\x01x")
        with pytest.raises(ConnectionClosed):
            await bad.recv()
        assert bad.close_code == 1002
        await good.send(frame)
        assert (await hear(good, 1))[0]["type"] == "ack"
