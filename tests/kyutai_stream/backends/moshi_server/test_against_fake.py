"""The backend on the fake server, which hears words in the audio."""

from __future__ import annotations

import anyio
import pytest

from kyutai_stream.backend import (
    ConnectRequest,
    Pause,
    Progress,
    WasReset,
    Word,
)
from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.errors import AuthError, CapacityError, ConnectFailed, ConnectionLost
from kyutai_stream.testing import (
    ConnectionPlan,
    FakeMoshiServer,
    check_backend,
)
from kyutai_stream.testing.moshi_server import STT_1B, STT_2_6B, STT_PYTHON, Model

from ..talk import SPEECH, TEXT, frames, talking

KINDS = pytest.mark.parametrize(
    ("model", "settings"),
    [
        (STT_1B, {}),
        (STT_2_6B, {"model": "stt-2.6b-en"}),
        (STT_PYTHON, {"python_server": True}),
    ],
    ids=["1b", "2.6b", "python"],
)


@KINDS
async def test_conformance(model: Model, settings: dict[str, object]) -> None:
    async with FakeMoshiServer(model) as server:
        backend = MoshiServerBackend(url=server.url, **settings)  # type: ignore[arg-type]  # as parametrized
        await check_backend(backend, speech=SPEECH.samples)
        await anyio.sleep(1)
        assert server.used_slots == 0


@KINDS
async def test_words_come_once_in_time_and_before_the_flush(
    model: Model, settings: dict[str, object]
) -> None:
    async with FakeMoshiServer(model) as server:
        backend = MoshiServerBackend(url=server.url, **settings)  # type: ignore[arg-type]  # as parametrized
        async with talking(backend) as talk:
            await talk.send_speech(1)
            await talk.flushed(1)
            told = talk.words()
            await anyio.sleep(5)
            assert talk.words() == told
            assert talk.failure is None
    assert [word.text for word in told] == TEXT.split()
    assert [word.index for word in told] == list(range(len(told)))
    for word, spoken in zip(told, SPEECH.words, strict=True):
        assert word.start == pytest.approx(spoken.start, abs=0.17)


async def test_reset_in_full_flow_keeps_the_epochs_apart() -> None:
    """The server still owes steps and words when the reset is asked for."""
    async with FakeMoshiServer(speed=2.0) as server:
        backend = MoshiServerBackend(url=server.url)
        async with talking(backend) as talk:
            await talk.send_speech(1)
            await talk.connection.reset()
            sent = await talk.send_speech(2)
            await talk.flushed(2)
    assert talk.failure is None
    border = talk.events.index(WasReset())
    for part in (talk.events[:border], talk.events[border + 1 :]):
        counts = [e.frames_processed for e in part if isinstance(e, Progress)]
        assert counts == list(range(1, len(counts) + 1))
        assert len(counts) == sent
        words = [event for event in part if isinstance(event, Word)]
        assert [word.text for word in words] == TEXT.split()
        assert words[0].index == 0
        assert sum(isinstance(event, Pause) for event in part) == len(counts)


async def test_an_idle_stream_lives_on_its_keepalives() -> None:
    async with FakeMoshiServer() as server:
        backend = MoshiServerBackend(url=server.url)
        async with talking(backend) as talk:
            for _ in range(10):
                await anyio.sleep(backend.capabilities.keepalive_interval_s or 0)
                await talk.connection.keepalive()
            await talk.send_speech(1)
            await talk.flushed(1)
        assert talk.failure is None
        assert [word.text for word in talk.words()] == TEXT.split()


async def test_refusals() -> None:
    plans = (
        ConnectionPlan(status=401),
        ConnectionPlan(full=True),
        ConnectionPlan(close_at_once=1005),
        ConnectionPlan(close_at_once=1006),
        ConnectionPlan(wedged=True),
        ConnectionPlan(accept_delay_s=11),
    )
    errors = (AuthError, CapacityError, CapacityError, CapacityError)
    async with FakeMoshiServer(plans=plans) as server:
        backend = MoshiServerBackend(url=server.url)
        for error in (*errors, ConnectFailed, ConnectFailed):
            with pytest.raises(error):
                async with backend.connect(ConnectRequest()):
                    pass
        async with backend.connect(ConnectRequest()):
            pass


async def test_a_cut_is_noticed_at_once() -> None:
    async with FakeMoshiServer(plans=[ConnectionPlan(cut_after_frames=9)]) as server:
        backend = MoshiServerBackend(url=server.url)
        async with backend.connect(ConnectRequest()) as connection:
            began = anyio.current_time()
            with pytest.raises(ConnectionLost):
                for frame in frames(SPEECH.samples):
                    await connection.send(frame)
                    await anyio.sleep(0.08)
            assert anyio.current_time() - began < 1.0


async def test_places_of_a_server() -> None:
    async with FakeMoshiServer() as server:
        backend = MoshiServerBackend(url=server.url)
        async with backend.connect(ConnectRequest()):
            (slots,) = (await backend.slots()).values()
    assert (slots.used, slots.total, slots.kind) == (1, 8, "batched_asr")
