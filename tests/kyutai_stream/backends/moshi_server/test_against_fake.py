"""The backend on the fake server, which hears words in the audio."""

from __future__ import annotations

import math

import anyio
import numpy as np
import numpy.typing as npt
import pytest

from kyutai_stream.backend import (
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Flushed,
    Pause,
    Progress,
    WasReset,
    Word,
)
from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.core import Framer
from kyutai_stream.errors import AuthError, CapacityError, ConnectFailed, ConnectionLost
from kyutai_stream.testing import (
    ConnectionPlan,
    FakeMoshiServer,
    VirtualTimeLoop,
    check_backend,
    speak,
)
from kyutai_stream.testing.moshi_server import STT_1B, STT_2_6B, STT_PYTHON, Model

TEXT = "alpha bravo charlie delta echo foxtrot golf"
SPEECH = speak(TEXT)
ZEROS = np.zeros(1920, dtype=np.float32)
KINDS = pytest.mark.parametrize(
    ("model", "settings"),
    [
        (STT_1B, {}),
        (STT_2_6B, {"model": "stt-2.6b-en"}),
        (STT_PYTHON, {"python_server": True}),
    ],
    ids=["1b", "2.6b", "python"],
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def frames(samples: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    framer = Framer()
    whole = framer.push(samples)
    return whole + framer.push(np.zeros(framer.padding, dtype=np.float32))


class Talk:
    """Sends and reads at the same time."""

    def __init__(self, connection: Connection, delay_s: float) -> None:
        self.connection = connection
        self.silence = [ZEROS] * (math.ceil(delay_s / 0.08) + 3)
        self.events: list[ConnectionEvent] = []
        self._news = anyio.Event()

    async def read(self) -> None:
        async for event in self.connection:
            self.events.append(event)
            self._news.set()
            self._news = anyio.Event()

    async def say(self, token: int) -> None:
        for frame in frames(SPEECH.samples) + self.silence:
            await self.connection.send(frame)
        await self.connection.request_flush(token)

    async def until(self, event: ConnectionEvent) -> None:
        with anyio.fail_after(60):
            while event not in self.events:
                await self._news.wait()

    def words(self) -> list[Word]:
        return [event for event in self.events if isinstance(event, Word)]


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
        async with (
            backend.connect(ConnectRequest()) as connection,
            anyio.create_task_group() as tasks,
        ):
            talk = Talk(connection, backend.capabilities.nominal_delay_s)
            tasks.start_soon(talk.read)
            await talk.say(1)
            await talk.until(Flushed(token=1))
            told = talk.words()
            await anyio.sleep(5)
            assert talk.words() == told
            tasks.cancel_scope.cancel()
    assert [word.text for word in told] == TEXT.split()
    assert [word.index for word in told] == list(range(len(told)))
    for word, spoken in zip(told, SPEECH.words, strict=True):
        assert word.start == pytest.approx(spoken.start, abs=0.17)


async def test_reset_in_full_flow_keeps_the_epochs_apart() -> None:
    """The server still owes steps and words when the reset is asked for."""
    async with FakeMoshiServer(speed=2.0) as server:
        backend = MoshiServerBackend(url=server.url)
        async with (
            backend.connect(ConnectRequest()) as connection,
            anyio.create_task_group() as tasks,
        ):
            talk = Talk(connection, backend.capabilities.nominal_delay_s)
            tasks.start_soon(talk.read)
            await talk.say(1)
            await connection.reset()
            await talk.say(2)
            await talk.until(Flushed(token=2))
            tasks.cancel_scope.cancel()
    border = talk.events.index(WasReset())
    for part in (talk.events[:border], talk.events[border + 1 :]):
        counts = [e.frames_processed for e in part if isinstance(e, Progress)]
        assert counts == list(range(1, len(counts) + 1))
        assert len(counts) == len(frames(SPEECH.samples) + talk.silence)
        words = [event for event in part if isinstance(event, Word)]
        assert [word.text for word in words] == TEXT.split()
        assert words[0].index == 0
        assert sum(isinstance(event, Pause) for event in part) == len(counts)


async def test_an_idle_stream_lives_on_its_keepalives() -> None:
    async with FakeMoshiServer() as server:
        backend = MoshiServerBackend(url=server.url)
        async with (
            backend.connect(ConnectRequest()) as connection,
            anyio.create_task_group() as tasks,
        ):
            talk = Talk(connection, backend.capabilities.nominal_delay_s)
            tasks.start_soon(talk.read)
            for _ in range(10):
                await anyio.sleep(backend.capabilities.keepalive_interval_s or 0)
                await connection.keepalive()
            await talk.say(1)
            await talk.until(Flushed(token=1))
            tasks.cancel_scope.cancel()
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
