from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import numpy.typing as npt
import pytest

from kyutai_stream import Final, get_backend, open_session
from kyutai_stream.backend import (
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Flushed,
    Progress,
    Ready,
    WasReset,
    Word,
    WordEnd,
)
from kyutai_stream.backends.replay import (
    DEFAULT_NOTICE,
    ReplayBackend,
    TranscriptLine,
)
from kyutai_stream.errors import ConfigError, ConnectionLost
from kyutai_stream.testing import check_backend

FRAME = np.zeros(1920, dtype=np.float32)
Samples = npt.NDArray[np.float32]

SCRIPT = (
    TranscriptLine(text="Hello", start=0.0, end=0.2),
    TranscriptLine(text="there.", start=0.24, end=0.4),
    TranscriptLine(text="Later.", start=8.0),
)


@asynccontextmanager
async def opened(
    backend: ReplayBackend, speaker: str = "ann"
) -> AsyncIterator[Connection]:
    with anyio.fail_after(20):
        async with backend.connect(ConnectRequest(speaker=speaker)) as connection:
            yield connection


async def until(
    connection: Connection, kind: type[ConnectionEvent]
) -> list[ConnectionEvent]:
    events = []
    async for event in connection:
        events.append(event)
        if isinstance(event, kind):
            break
    return events


def words(events: list[ConnectionEvent]) -> list[tuple[int, str, object]]:
    return [(e.index, e.text, e.start) for e in events if isinstance(e, Word)]


# -- scripted ------------------------------------------------------------------------


async def test_a_script_keeps_to_the_contract(burst: Samples) -> None:
    await check_backend(ReplayBackend(transcript=SCRIPT), speech=burst)


async def test_words_come_when_the_audio_has_reached_their_end() -> None:
    async with opened(ReplayBackend(transcript=SCRIPT)) as connection:
        heard = []
        for _ in range(5):
            await connection.send(FRAME)
            heard.append(await until(connection, Progress))
    assert isinstance(heard[0].pop(0), Ready)
    assert [words(events) for events in heard] == [
        [(0, DEFAULT_NOTICE, 0.0)],
        [],
        [(1, "Hello", 0.0)],
        [],
        [(2, "there.", 0.24)],
    ]
    assert WordEnd(index=2, end=0.4) in heard[4]
    assert heard[4][-1] == Progress(frames_processed=5, lag_frames=0)


async def test_a_flush_brings_out_the_word_that_has_begun() -> None:
    async with opened(ReplayBackend(transcript=SCRIPT)) as connection:
        for _ in range(4):
            await connection.send(FRAME)
        await connection.request_flush(5)
        events = await until(connection, Flushed)
    assert [text for _, text, _ in words(events)] == [DEFAULT_NOTICE, "Hello", "there."]
    assert events[-2:] == [WordEnd(index=2, end=4 * 0.08), Flushed(token=5)]


async def test_a_flush_brings_out_nothing_from_the_future() -> None:
    async with opened(ReplayBackend(transcript=SCRIPT)) as connection:
        for _ in range(3):
            await connection.send(FRAME)
        # 0.24 s have been heard, and the second word begins just there.
        await connection.request_flush(1)
        events = await until(connection, Flushed)
    assert [text for _, text, _ in words(events)] == [DEFAULT_NOTICE, "Hello"]


async def test_a_reset_begins_anew() -> None:
    async with opened(ReplayBackend(transcript=SCRIPT)) as connection:
        for _ in range(5):
            await connection.send(FRAME)
        await connection.reset()
        await until(connection, WasReset)
        for _ in range(3):
            await connection.send(FRAME)
        await connection.request_flush(1)
        events = await until(connection, Flushed)
    assert words(events) == [(0, DEFAULT_NOTICE, 0.0), (1, "Hello", 0.0)]
    progress = [e.frames_processed for e in events if isinstance(e, Progress)]
    assert progress == [1, 2, 3]


async def test_sending_waits_for_a_reader() -> None:
    async with opened(ReplayBackend(transcript=SCRIPT)) as connection:
        sent = 0
        with anyio.move_on_after(0.2) as scope:
            while True:
                await connection.send(FRAME)
                sent += 1
        assert scope.cancelled_caught
        assert 40 < sent < 100


async def test_nothing_is_lost_between_a_fast_sender_and_a_slow_reader() -> None:
    many = [TranscriptLine(text=f"w{n}", start=n * 0.01) for n in range(1500)]
    events: list[ConnectionEvent] = []
    async with (
        opened(ReplayBackend(transcript=many)) as connection,
        anyio.create_task_group() as tasks,
    ):

        async def feed() -> None:
            for _ in range(190):
                await connection.send(FRAME)
            await connection.request_flush(1)

        tasks.start_soon(feed)
        async for event in connection:
            events.append(event)
            await anyio.lowlevel.checkpoint()
            if isinstance(event, Flushed):
                break
    assert [text for _, text, _ in words(events)[1:]] == [f"w{n}" for n in range(1500)]
    assert [index for index, _, _ in words(events)] == list(range(1501))


async def test_the_session_shows_that_it_is_scripted() -> None:
    lines = [{"text": "We begin now.", "start": 0.1, "end": 1.0}]
    async with open_session(get_backend("replay", transcript=lines)) as session:
        await session.push(np.zeros(24_000, dtype=np.float32))
        await session.end_input()
        finals = [event.text async for event in session if isinstance(event, Final)]
    assert " ".join(finals) == f"{DEFAULT_NOTICE} We begin now."


def test_it_says_what_it_is() -> None:
    scripted = ReplayBackend(transcript=SCRIPT)
    assert "SCRIPTED" in scripted.description
    assert not scripted.capabilities.transcribes
    typed = ReplayBackend(source=lambda speaker: Desk().lines(speaker))
    assert "typed by a person" in typed.description
    assert typed.capabilities.transcribes


def test_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text('{"text": "Hello", "start": 0.5}')
    get_backend("replay", transcript=str(path))
    with pytest.raises(ConfigError, match="absent"):
        get_backend("replay", transcript=str(tmp_path / "absent"))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"transcript": SCRIPT, "source": lambda speaker: Desk().lines(speaker)},
        {"transcript": SCRIPT, "notice": ""},
        {"transcript": SCRIPT, "notice": "scripted"},
        {"transcript": SCRIPT, "notice": "[]"},
        {"transcript": SCRIPT, "notice": "[a\nb]"},
        {"transcript": SCRIPT, "typing_delay_s": -1.0},
        {"transcript": SCRIPT, "typing_delay_s": float("nan")},
        {"transcript": [("Hello", 1.0)]},
    ],
)
def test_wrong_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        get_backend("replay", **settings)


# -- typed by a person -----------------------------------------------------------------


class Desk:
    """Where the test types."""

    def __init__(self) -> None:
        self._keys, self._typed = anyio.create_memory_object_stream[str](1)
        self.speakers: list[str] = []
        self.open = 0

    async def type(self, text: str) -> None:
        await self._keys.send(text)

    def leave(self) -> None:
        self._keys.close()

    async def lines(self, speaker: str) -> AsyncIterator[str]:
        self.speakers.append(speaker)
        self.open += 1
        try:
            async for text in self._typed:
                yield text
        finally:
            self.open -= 1
            self._typed.close()
            self._keys.close()


async def test_typed_captions_keep_to_the_contract(burst: Samples) -> None:
    async def eager(speaker: str) -> AsyncIterator[str]:
        yield "hello there"

    # The suite wants a word after a reset, too: the notice.
    backend = ReplayBackend(source=eager, notice="[typed]")
    await check_backend(backend, speech=burst)


async def test_typed_words_are_dated_where_the_audio_is() -> None:
    desk = Desk()
    async with opened(ReplayBackend(source=desk.lines)) as connection:
        await until(connection, Ready)
        for _ in range(10):
            await connection.send(FRAME)
        await desk.type("Good  morning, ")
        typed = await until(connection, Word) + await until(connection, Word)
        for _ in range(5):
            await connection.send(FRAME)
        await desk.type("Ann.")
        typed += await until(connection, Word)
        # Nobody is asked to type when the audio ends.
        await connection.request_flush(3)
        await until(connection, Flushed)
    assert words(typed) == [
        (0, "Good", pytest.approx(0.8)),
        (1, "morning,", pytest.approx(0.8)),
        (2, "Ann.", pytest.approx(1.2)),
    ]
    assert desk.speakers == ["ann"]
    assert desk.open == 0


async def test_typed_words_can_be_dated_back() -> None:
    desk = Desk()
    backend = ReplayBackend(source=desk.lines, typing_delay_s=0.5)
    async with opened(backend) as connection:
        await connection.send(FRAME)
        await desk.type("early")
        early = await until(connection, Word)
        for _ in range(9):
            await connection.send(FRAME)
        await desk.type("late")
        late = await until(connection, Word)
    assert words(early) == [(0, "early", 0.0)]
    assert words(late) == [(1, "late", pytest.approx(0.3))]


async def test_typing_waits_for_a_reader_and_loses_nothing() -> None:
    desk = Desk()
    async with opened(ReplayBackend(source=desk.lines)) as connection:
        typed = 0
        with anyio.move_on_after(0.2) as scope:
            for n in range(1000):
                await desk.type(f"w{n}")
                typed += 1
        assert scope.cancelled_caught
        assert 40 < typed < 100
        events: list[ConnectionEvent] = []
        while len(words(events)) < typed:
            events += await until(connection, Word)
    assert [text for _, text, _ in words(events)] == [f"w{n}" for n in range(typed)]


async def test_a_person_who_leaves_ends_the_typing_only() -> None:
    desk = Desk()
    async with opened(ReplayBackend(source=desk.lines)) as connection:
        await desk.type("bye")
        desk.leave()
        assert words(await until(connection, Word)) == [(0, "bye", 0.0)]
        await connection.send(FRAME)
        await connection.request_flush(1)
        assert (await until(connection, Flushed))[-1] == Flushed(token=1)
    assert desk.open == 0


async def test_a_failing_source_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(speaker: str) -> AsyncIterator[str]:
        yield "hello"
        raise RuntimeError("the secret words")

    async with opened(ReplayBackend(source=broken)) as connection:
        events = [event async for event in connection]
        assert words(events) == [(0, "hello", 0.0)]
        with pytest.raises(ConnectionLost):
            await connection.send(FRAME)
        with pytest.raises(ConnectionLost):
            await connection.request_flush(1)
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


async def test_a_source_is_closed_when_the_connection_is() -> None:
    desk = Desk()
    with anyio.move_on_after(20):
        async with opened(ReplayBackend(source=desk.lines)) as connection:
            await until(connection, Ready)
            await desk.type("word " * 500)
            await until(connection, Word)
            assert desk.open == 1
    assert desk.open == 0


async def test_the_error_of_the_block_comes_out_as_it_is() -> None:
    desk = Desk()
    with pytest.raises(KeyError):
        async with opened(ReplayBackend(source=desk.lines)) as connection:
            await until(connection, Ready)
            raise KeyError("mine")
    desk.leave()


async def test_a_session_with_a_captioner() -> None:
    desk = Desk()
    backend = ReplayBackend(source=desk.lines)
    finals = []
    with anyio.fail_after(20):
        async with open_session(backend, speaker="ann") as session:
            await session.push(np.zeros(48_000, dtype=np.float32))
            await desk.type("Good morning, everybody.")
            await session.flush()
            await session.push(np.zeros(24_000, dtype=np.float32))
            await session.end_input()
            finals = [event async for event in session if isinstance(event, Final)]
    assert [final.text for final in finals] == ["Good morning, everybody."]
