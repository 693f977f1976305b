"""The `modal` backend against the fake gateway: both must mean the same."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest

from kyutai_stream.backend import (
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Draining,
    Flushed,
    Pause,
    Progress,
    Ready,
    WasReset,
    Word,
    WordEnd,
)
from kyutai_stream.backends.modal import ModalBackend
from kyutai_stream.errors import (
    AuthError,
    CapacityError,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    KyutaiStreamError,
    ProtocolError,
)
from kyutai_stream.testing.conformance import check_backend
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
    Incident,
    StaleEpoch,
    UnknownMessages,
)
from kyutai_stream.testing.moshi_server import STT_2_6B
from kyutai_stream.testing.tones import Utterance

SILENCE = np.zeros(1920, dtype=np.float32)


class Heard:
    """What a connection said, collected beside the test."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.events: list[ConnectionEvent] = []
        self.error: KyutaiStreamError | None = None

    async def listen(self) -> None:
        try:
            async for event in self.connection:
                self.events.append(event)
        except KyutaiStreamError as exc:
            self.error = exc

    @property
    def words(self) -> list[Word]:
        return [event for event in self.events if isinstance(event, Word)]

    async def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Virtual time costs nothing, and events have no other bell."""
        for _ in range(round(seconds / 0.05)):
            if condition():
                return
            await anyio.sleep(0.05)
        raise AssertionError("it did not happen")


@asynccontextmanager
async def connected(backend: ModalBackend) -> AsyncIterator[Heard]:
    async with backend.connect(ConnectRequest()) as connection:
        heard = Heard(connection)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(heard.listen)
            yield heard
            tasks.cancel_scope.cancel()


async def say(connection: Connection, spoken: Utterance, silence: int = 0) -> None:
    samples = spoken.samples
    padded = np.pad(samples, (0, -len(samples) % 1920))
    for frame in np.split(padded, len(padded) // 1920):
        await connection.send(frame)
    for _ in range(silence):
        await connection.send(SILENCE)


@pytest.mark.parametrize("speed", [None, 3.0])
async def test_conformance(spoken: Utterance, speed: float | None) -> None:
    async with FakeGateway(speed=speed, key="wk-1", secret="ws-1") as gateway:
        backend = ModalBackend(url=gateway.url, key="wk-1", secret="ws-1")
        await check_backend(backend, speech=spoken.samples)
        assert gateway.used == 0


@pytest.mark.parametrize("dialect", ["gen2", "gen3", "document"])
async def test_conformance_of_older_dialects(
    dialect: DialectName, spoken: Utterance
) -> None:
    async with FakeGateway(dialect) as gateway:
        backend = ModalBackend(url=gateway.url, dialect=dialect)
        await check_backend(backend, speech=spoken.samples)


async def test_protocol_1_word_by_word(spoken: Utterance) -> None:
    async with FakeGateway() as gateway, connected(ModalBackend(url=gateway.url)) as it:
        await say(it.connection, spoken)
        await it.connection.request_flush(7)
        await it.until(lambda: Flushed(token=7) in it.events)
        assert [word.text for word in it.words] == spoken.text.split()
        for heard, word in zip(it.words, spoken.words, strict=True):
            assert heard.start == pytest.approx(word.start, abs=0.09)
        first = it.events[0]
        assert isinstance(first, Ready)
        assert first.capabilities.acks
        assert first.capabilities.self_flushing
        progress = [event for event in it.events if isinstance(event, Progress)]
        assert progress[-1].frames_processed == gateway.connections[0].frames
        assert progress[-1].lag_frames == 0
        assert any(isinstance(event, Pause) for event in it.events)
        assert any(isinstance(event, WordEnd) for event in it.events)
        # A new epoch.
        await it.connection.reset()
        await say(it.connection, spoken)
        await it.connection.request_flush(8)
        await it.until(lambda: Flushed(token=8) in it.events)
        after = it.events[it.events.index(WasReset()) :]
        again = [event for event in after if isinstance(event, Word)]
        assert [word.index for word in again] == [0, 1, 2, 3, 4]
        assert again[0].start == pytest.approx(0.3, abs=0.09)


@pytest.mark.parametrize(
    ("dialect", "told"),
    [
        # Gen 1 wants other audio and must be named.
        ("gen1", True),
        *((name, told) for name in ("gen2", "gen3", "document") for told in (0, 1)),
    ],
)
async def test_a_conversation_in_each_dialect(
    dialect: DialectName, told: bool, spoken: Utterance
) -> None:
    async with FakeGateway(dialect) as gateway:
        backend = ModalBackend(url=gateway.url, dialect=dialect if told else "auto")
        async with connected(backend) as it:
            silence = 50 if dialect == "gen1" else 12
            await say(it.connection, spoken, silence)
            await it.connection.request_flush(1)
            await it.until(lambda: Flushed(token=1) in it.events)
            assert [word.text for word in it.words] == spoken.text.split()
            starts = [word.start for word in it.words]
            assert starts == sorted(starts)
            # And on.
            await say(it.connection, spoken, silence)
            await it.connection.request_flush(2)
            await it.until(lambda: Flushed(token=2) in it.events)
            said = " ".join(word.text for word in it.words)
            assert said == f"{spoken.text} {spoken.text}"
            assert it.error is None


async def test_gen3_with_leading_spaces(spoken: Utterance) -> None:
    async with (
        FakeGateway("gen3", leading_space=True) as gateway,
        connected(ModalBackend(url=gateway.url)) as it,
    ):
        await say(it.connection, spoken, 12)
        await it.connection.request_flush(1)
        await it.until(lambda: Flushed(token=1) in it.events)
        assert " ".join(word.text for word in it.words) == spoken.text


async def test_a_model_without_acks(spoken: Utterance) -> None:
    async with FakeGateway(model=STT_2_6B) as gateway:
        async with connected(ModalBackend(url=gateway.url)) as it:
            await say(it.connection, spoken)
            await it.connection.request_flush(1)
            await it.until(lambda: Flushed(token=1) in it.events)
            assert " ".join(word.text for word in it.words) == spoken.text
            first = it.events[0]
            assert isinstance(first, Ready)
            assert not first.capabilities.acks
            assert first.capabilities.nominal_delay_s == pytest.approx(2.56)


@pytest.mark.parametrize(
    ("attempt", "error", "retry_after_s"),
    [
        (Attempt(status=401), AuthError, None),
        (Attempt(status=403), AuthError, None),
        (Attempt(status=404), ConfigError, None),
        (Attempt(status=429, headers={"Retry-After": "7"}), CapacityError, 7),
        (Attempt(status=503, headers={"Retry-After": "2"}), CapacityError, 2),
        (
            Attempt(status=303, headers={"Location": "https://x.invalid/?__modal=1"}),
            CapacityError,
            None,
        ),
        (Attempt(full=True), CapacityError, None),
        (Attempt(close_first=1011), ConnectFailed, None),
        (Attempt(close_first=1000), CapacityError, None),
        (Attempt(incidents=(At(after_s=0, incident=Abort()),)), None, None),
        (Attempt(never_ready=True), ConnectFailed, None),
    ],
)
async def test_what_comes_out_of_connecting(
    attempt: Attempt,
    error: type[KyutaiStreamError] | None,
    retry_after_s: float | None,
) -> None:
    async with FakeGateway(attempts=[attempt]) as gateway:
        backend = ModalBackend(url=gateway.url, dialect="protocol1")
        if error is None:
            async with connected(backend) as it:
                await it.until(lambda: it.error is not None)
                assert isinstance(it.error, ConnectionLost)
            return
        with pytest.raises(error) as caught:
            async with backend.connect(ConnectRequest()):
                pass
        if isinstance(caught.value, CapacityError):
            assert caught.value.retry_after_s == retry_after_s


@pytest.mark.parametrize("dialect", ["gen3", "document"])
async def test_a_full_older_gateway_is_a_capacity_error(dialect: DialectName) -> None:
    async with FakeGateway(dialect, attempts=[Attempt(full=True)]) as gateway:
        backend = ModalBackend(url=gateway.url, dialect=dialect)
        async with connected(backend) as it:
            await it.until(lambda: len(it.events) > 0)
            # What `send` raises may be less exact than what iteration tells.
            with contextlib.suppress(ConnectionLost):
                await it.connection.send(SILENCE)
            await it.until(lambda: it.error is not None)
            assert isinstance(it.error, CapacityError)


async def test_a_minute_of_cold_start() -> None:
    async with FakeGateway(cold_start_s=60) as gateway:
        async with connected(ModalBackend(url=gateway.url)) as it:
            await it.until(lambda: len(it.events) > 0)
    async with FakeGateway(attempts=[Attempt(ready_s=60)]) as gateway:
        backend = ModalBackend(url=gateway.url, dialect="protocol1")
        async with connected(backend) as it:
            await it.until(lambda: len(it.events) > 0)


@pytest.mark.parametrize(
    ("incident", "error"),
    [
        (Abort(), ConnectionLost),
        (CloseWith(code=1000), ConnectionLost),
        (CloseWith(code=1011), ConnectionLost),
        (CloseWith(code=1012), ConnectionLost),
        (Fail(code="upstream_lost"), ConnectionLost),
        (Fail(code="upstream_wedged"), ConnectionLost),
        (Fail(code="internal"), ConnectionLost),
        (Fail(code="idle_timeout"), ConnectionLost),
        (Fail(code="draining"), ConnectionLost),
        (Garbage(), ProtocolError),
    ],
)
async def test_what_ends_a_working_connection(
    incident: Incident, error: type[KyutaiStreamError], spoken: Utterance
) -> None:
    async with FakeGateway() as gateway:
        async with connected(ModalBackend(url=gateway.url)) as it:
            await say(it.connection, spoken)
            await it.until(lambda: len(it.words) == 4)
            gateway.happen(incident)
            await it.until(lambda: it.error is not None)
            assert isinstance(it.error, error)


@pytest.mark.parametrize("incident", [StaleEpoch(), UnknownMessages()])
async def test_what_is_ignored(incident: Incident, spoken: Utterance) -> None:
    async with FakeGateway() as gateway:
        async with connected(ModalBackend(url=gateway.url)) as it:
            await say(it.connection, spoken)
            await it.until(lambda: len(it.words) == 4)
            gateway.happen(incident)
            await it.connection.request_flush(1)
            await it.until(lambda: Flushed(token=1) in it.events)
            assert " ".join(word.text for word in it.words) == spoken.text
            assert it.error is None


async def test_draining(spoken: Utterance) -> None:
    async with FakeGateway() as gateway:
        async with connected(ModalBackend(url=gateway.url)) as it:
            await say(it.connection, spoken)
            await it.until(lambda: len(it.words) == 4)
            gateway.drain(Drain(deadline_s=5.0))
            await it.until(lambda: Draining(deadline_s=5.0) in it.events)
            await it.until(lambda: it.error is not None)
            assert isinstance(it.error, ConnectionLost)
            assert len(it.words) == 5


@pytest.mark.parametrize("dialect", ["protocol1", "gen2", "gen3", "document"])
async def test_keepalive_keeps_alive(dialect: DialectName) -> None:
    async with FakeGateway(dialect) as gateway:
        async with connected(ModalBackend(url=gateway.url, dialect=dialect)) as it:
            await it.until(lambda: len(it.events) > 0)
            first = it.events[0]
            assert isinstance(first, Ready)
            seconds = first.capabilities.keepalive_interval_s
            assert seconds is not None
            for _ in range(round(400 / seconds)):
                await anyio.sleep(seconds)
                await it.connection.keepalive()
            await it.connection.send(SILENCE)
            await anyio.sleep(1)
            assert it.error is None
            assert gateway.used == 1
