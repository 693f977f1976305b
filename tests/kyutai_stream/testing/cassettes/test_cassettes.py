"""Record a conversation with the fake gateway and play it back to a client."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kyutai_stream.testing.cassettes import (
    Cassette,
    CassetteMismatch,
    Entry,
    Header,
    play,
    record,
)
from kyutai_stream.testing.gateway import Abort, At, Attempt, FakeGateway, SendRaw
from kyutai_stream.testing.moshi_server import ConnectionPlan, FakeMoshiServer
from kyutai_stream.testing.tones import speak
from kyutai_stream.testing.virtual_time import VirtualTimeLoop

KEY, SECRET = "wk-hush", "ws-hush-hush"
SPOKEN = speak("alpha bravo. charlie", lead_s=0.2, tail_s=0.2)
AUDIO = SPOKEN.samples.astype("<f4").tobytes()
EOS = '{"type": "eos"}'
HEADER = Header(server="ws://127.0.0.1/v1/stream")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


async def converse(
    socket: ClientConnection, *, size: int = 7680, until: int | None = None
) -> list[str | bytes]:
    """Speak, end, and hear everything."""
    for at in range(0, len(AUDIO[:until]), size):
        await socket.send(AUDIO[at : at + size])
    await socket.send(b"")
    await socket.send(EOS)
    return await listen(socket)


async def listen(socket: ClientConnection) -> list[str | bytes]:
    heard = []
    with anyio.move_on_after(60):
        try:
            while True:
                heard.append(await socket.recv())
        except ConnectionClosed:
            pass
    return heard


async def recorded(path: Path, **settings: Any) -> list[str | bytes]:
    """Record one conversation with the fake; returns what the client heard."""
    headers = {"Modal-Key": KEY, "Modal-Secret": SECRET}
    async with FakeGateway(key=KEY, secret=SECRET) as gateway:
        async with record(gateway.url, path, note="tones", **settings) as recorder:
            address = f"{recorder.url}?auth_id={SECRET}"
            async with connect(address, additional_headers=headers) as socket:
                heard = await converse(socket)
                assert socket.close_code == 1000
            assert recorder.files == [path]
            assert gateway.handshakes[0].headers["modal-key"] == KEY
            assert f"auth_id={SECRET}" in gateway.connections[0].path
            assert gateway.connections[0].bytes_received == len(AUDIO)
    return heard


async def test_what_was_recorded_is_played(tmp_path: Path) -> None:
    heard = await recorded(tmp_path / "out.jsonl")
    async with play(tmp_path / "out.jsonl", strict=True) as player:
        async with connect(player.url) as socket:
            assert await converse(socket) == heard
            assert socket.close_code == 1000
        assert player.mismatches == []


async def test_neither_credentials_nor_audio_are_written(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    await recorded(path)
    written = path.read_text()
    assert KEY not in written
    assert SECRET not in written
    assert "auth_id" not in written
    assert base64.b64encode(AUDIO[:30]).decode() not in written
    cassette = Cassette.load(path)
    assert cassette.header.audio == "digest"
    assert cassette.header.note == "tones"
    assert "SHA-256" in cassette.header.redaction
    assert cassette.header.server.endswith("/v1/stream")
    assert len(written) < len(AUDIO) / 10
    times = [entry.t for entry in cassette.entries]
    assert times == sorted(times)


async def test_what_the_address_holds_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    async with FakeGateway() as gateway:
        upstream = gateway.url.replace("//", f"//me:{SECRET}@")
        address = f"{upstream}?auth_id={SECRET}"
        async with record(address, path) as recorder:
            async with connect(recorder.url) as socket:
                await socket.recv()
        assert f"auth_id={SECRET}" in gateway.connections[0].path
        assert Cassette.load(path).header.server == gateway.url
    assert SECRET not in path.read_text()


async def test_audio_is_written_where_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    heard = await recorded(path, audio="full")
    cassette = Cassette.load(path)
    assert "COMPLETE" in cassette.header.redaction
    data = b"".join(
        entry.data or b"" for entry in cassette.entries if entry.dir == "client"
    )
    assert data == AUDIO
    async with play(cassette, strict=True) as player, connect(player.url) as socket:
        assert await converse(socket) == heard


async def test_playing_follows_the_client_and_not_the_clock() -> None:
    entries = (
        Entry(t=5, dir="server", kind="text", text="hello"),
        Entry(t=6, dir="client", kind="binary", size=100, sha256="?"),
        Entry(t=7, dir="client", kind="binary", size=100, sha256="?"),
        Entry(t=900, dir="server", kind="text", text="200 bytes"),
        Entry(t=901, dir="client", kind="text", text="bye"),
        Entry(t=902, dir="server", kind="close", code=1012, reason="later"),
    )
    cassette = Cassette(header=HEADER, entries=entries)
    async with play(cassette) as player, connect(player.url) as socket:
        began = anyio.current_time()
        assert await socket.recv() == "hello"
        assert anyio.current_time() - began < 1
        await socket.send(bytes(199))
        with anyio.move_on_after(3600) as waiting:
            await socket.recv()
        assert waiting.cancelled_caught
        await socket.send(bytes(1))
        assert await socket.recv() == "200 bytes"
        await socket.send("other")
        assert await listen(socket) == []
        assert (socket.close_code, socket.close_reason) == (1012, "later")


async def test_other_chunks_play_as_well_but_are_mismatches(tmp_path: Path) -> None:
    heard = await recorded(tmp_path / "out.jsonl")
    with pytest.raises(CassetteMismatch, match="client message 1: binary of 1000"):
        async with play(tmp_path / "out.jsonl", strict=True) as player:
            async with connect(player.url) as socket:
                assert await converse(socket, size=1000) == heard
    assert 0 < len(player.mismatches) <= 100


async def test_strict_complains_about_what_was_not_said(tmp_path: Path) -> None:
    await recorded(tmp_path / "out.jsonl")
    with pytest.raises(CassetteMismatch, match="messages of the client are missing"):
        async with play(tmp_path / "out.jsonl", strict=True) as player:
            async with connect(player.url) as socket:
                await socket.send(AUDIO[: 4 * 1920])
    with pytest.raises(CassetteMismatch, match="1 cassettes were not asked for"):
        async with play(tmp_path / "out.jsonl", strict=True):
            pass


async def test_strict_compares_audio_by_its_digest(tmp_path: Path) -> None:
    await recorded(tmp_path / "out.jsonl")
    async with play(tmp_path / "out.jsonl") as player, connect(player.url) as socket:
        await socket.send(AUDIO[:7680])
        await socket.send(bytes([1] * 7680))
        await listen(socket)
    assert len(player.mismatches) == 1
    assert "client message 2" in player.mismatches[0]


async def test_strict_compares_controls_as_json() -> None:
    entries = (
        Entry(t=0, dir="client", kind="text", text='{"type":"flush","id":1}'),
        Entry(t=0, dir="server", kind="text", text="done"),
        Entry(t=0, dir="client", kind="close", code=1000),
        Entry(t=0, dir="server", kind="text", text="too late"),
    )
    cassette = Cassette(header=HEADER, entries=entries)
    async with play(cassette, strict=True) as player, connect(player.url) as socket:
        await socket.send('{"id": 1, "type": "flush"}')
        assert await socket.recv() == "done"
    with pytest.raises(CassetteMismatch, match="text of 3 differs"):
        async with play(cassette, strict=True) as player, connect(player.url) as socket:
            await socket.send("abc")
            await socket.recv()


async def test_abrupt_ends_and_closes_are_recorded(tmp_path: Path) -> None:
    plan = Attempt(
        incidents=(
            At(frame=1, incident=SendRaw(message=b"\x00\x01binary")),
            At(frame=2, incident=Abort()),
        )
    )
    path = tmp_path / "out.jsonl"
    async with (
        FakeGateway(attempts=[plan]) as gateway,
        record(gateway.url, path) as recorder,
    ):
        async with connect(recorder.url) as socket:
            await socket.send(bytes(4 * 1920))
            await socket.send(bytes(4 * 1920))
            heard = await listen(socket)
            assert socket.close_code == 1006
        async with connect(recorder.url) as socket:
            await socket.recv()
            await socket.close(4001, "bye")
    assert recorder.files == [path, tmp_path / "out-2.jsonl"]
    assert Cassette.load(recorder.files[0]).entries[-1].code == 1006
    last = Cassette.load(recorder.files[1]).entries[-1]
    assert (last.dir, last.kind, last.code, last.reason) == (
        "client",
        "close",
        4001,
        "bye",
    )
    async with play(*recorder.files, strict=True) as player:
        async with connect(player.url) as socket:
            await socket.send(bytes(4 * 1920))
            await socket.send(bytes(4 * 1920))
            assert await listen(socket) == heard
            assert socket.close_code == 1006
        async with connect(player.url) as socket:
            assert json.loads(await socket.recv())["type"] == "ready"


async def test_a_close_without_a_code_stays_one(tmp_path: Path) -> None:
    """So says moshi-server that it is full."""
    path = tmp_path / "out.jsonl"
    headers = {"kyutai-api-key": "public_token"}
    async with (
        FakeMoshiServer(later=ConnectionPlan(full=True)) as server,
        record(server.url, path) as recorder,
        connect(recorder.url, additional_headers=headers) as socket,
    ):
        heard = await listen(socket)
        assert (len(heard), socket.close_code) == (1, 1005)
    assert Cassette.load(path).entries[-1].code == 1005
    async with play(path) as player, connect(player.url) as socket:
        assert await listen(socket) == heard
        assert socket.close_code == 1005


@pytest.mark.parametrize("status", [401, 429, 503])
async def test_refusals_are_recorded_and_played(status: int, tmp_path: Path) -> None:
    plan = Attempt(status=status, headers={"Retry-After": "7", "X-Secret": SECRET})
    path = tmp_path / "out.jsonl"
    async with (
        FakeGateway(attempts=[plan]) as gateway,
        record(gateway.url, path) as recorder,
    ):
        first = await refused(recorder.url)
    assert SECRET not in path.read_text()
    async with play(path, strict=True) as player:
        assert await refused(player.url) == first == (status, "7")
        assert await refused(player.url) == (503, None)
        assert player.mismatches == ["connection 2: no cassette for it"]
        player.mismatches.clear()


async def test_redirects_and_dead_servers(tmp_path: Path) -> None:
    plan = Attempt(status=303, headers={"Location": f"https://x.invalid/?t={SECRET}"})
    path = tmp_path / "out.jsonl"
    async with FakeGateway(attempts=[plan]) as gateway:
        async with record(gateway.url, path) as recorder:
            async with await anyio.connect_tcp(
                "127.0.0.1", int(recorder.url.split(":")[2].split("/")[0])
            ) as plain:
                await plain.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"426" in await plain.receive()
            with pytest.raises(Exception, match="redacted.invalid"):
                async with connect(recorder.url):
                    pass
            assert SECRET not in path.read_text()
        url = gateway.url
    async with record(url, path) as recorder:
        assert await refused(recorder.url) == (502, None)


async def refused(url: str) -> tuple[int, str | None]:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url):
            pass
    response = caught.value.response
    return response.status_code, response.headers.get("Retry-After")


async def test_leaving_the_recorder_hangs_up_on_both(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    async with FakeGateway() as gateway:
        async with record(gateway.url, path) as recorder:
            socket = await connect(recorder.url)
            await socket.recv()
        await socket.wait_closed()
        await gateway.connections[0].wait_ended()
    assert [entry.kind for entry in Cassette.load(path).entries] == ["text"]
