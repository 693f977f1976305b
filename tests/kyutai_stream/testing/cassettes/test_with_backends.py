"""Both websocket backends through the recorder, and against what it wrote."""

from __future__ import annotations

from pathlib import Path

import anyio
import numpy as np
import pytest

from kyutai_stream.backend import Backend, ConnectRequest, Flushed, Word
from kyutai_stream.backends.modal import ModalBackend
from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.testing.cassettes import Cassette, play, record
from kyutai_stream.testing.gateway import FakeGateway
from kyutai_stream.testing.moshi_server import FakeMoshiServer
from kyutai_stream.testing.tones import speak
from kyutai_stream.testing.virtual_time import VirtualTimeLoop

SPOKEN = speak("alpha bravo charlie", lead_s=0.3, tail_s=1.5)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


async def transcribe(backend: Backend) -> list[Word]:
    words: list[Word] = []
    samples = np.pad(SPOKEN.samples, (0, -len(SPOKEN.samples) % 1920))
    async with backend.connect(ConnectRequest()) as connection:
        for frame in np.split(samples, len(samples) // 1920):
            await connection.send(frame)
        await connection.request_flush(1)
        with anyio.fail_after(60):
            async for event in connection:
                if isinstance(event, Word) and event.text:
                    words.append(event)
                elif isinstance(event, Flushed):
                    break
    return words


async def test_a_gateway(tmp_path: Path) -> None:
    path = tmp_path / "gateway.jsonl"
    async with FakeGateway() as server, record(server.url, path) as recorder:
        said = await transcribe(ModalBackend(url=recorder.url))
    assert [word.text for word in said] == ["alpha", "bravo", "charlie"]
    async with play(path) as player:
        assert await transcribe(ModalBackend(url=player.url + "v1/stream")) == said
    assert player.mismatches == []


async def test_a_moshi_server(tmp_path: Path) -> None:
    path = tmp_path / "moshi.jsonl"
    async with FakeMoshiServer() as server, record(server.url, path) as recorder:
        said = await transcribe(MoshiServerBackend(url=recorder.url))
    assert [word.text for word in said] == ["alpha", "bravo", "charlie"]
    assert "public_token" not in path.read_text()
    assert all(one.kind != "text" for one in Cassette.load(path).entries)
    async with play(path) as player:
        backend = MoshiServerBackend(url=player.url + "api/asr-streaming")
        assert await transcribe(backend) == said
    assert player.mismatches == []
