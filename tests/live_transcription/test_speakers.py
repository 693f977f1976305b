# SPDX-License-Identifier: AGPL-3.0-or-later
"""No audio is lost silently or heard twice on its way to the recogniser."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import numpy as np
import numpy.typing as npt
import pytest
from attrs import define, field

from kyutai_stream import AuthError, Capabilities, CapacityError, ConnectFailed
from kyutai_stream.testing import ConnectionScript, ScriptedBackend, ScriptedWord
from kyutai_stream.testing.virtual_time import VirtualTimeLoop
from live_transcription.dictation import LAST_WORDS_S
from live_transcription.notices import Notice
from live_transcription.roomlog import RoomLog
from live_transcription.speakers import SpeakerFeed
from spreed_signaling.media import AudioChunk

RATE = 24_000
FRAME = 1920
"""Samples of 80 ms, so that no part of a frame is held back at the end."""
REFUSE = ConnectionScript(refuse=AuthError("the key is not accepted"))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


def chunk(number: int, size: int = FRAME) -> AudioChunk:
    """Audio in which every sample tells its own place; all of it is loud."""
    begin = number * size
    numbers = np.arange(begin + 1, begin + size + 1, dtype=np.float32)
    samples = numbers / np.float32(2**23) + np.float32(0.125)
    return AudioChunk(samples=samples, media_time_s=begin / RATE)


class Microphone:
    """A speaker whose audio comes when the test says so."""

    session_id = "speaker"

    def __init__(self) -> None:
        send, receive = anyio.create_memory_object_stream[AudioChunk](100_000)
        self._send, self._receive = send, receive
        self.said = 0

    def say(self, seconds: float) -> None:
        for _ in range(round(seconds * RATE / FRAME)):
            self._send.send_nowait(chunk(self.said))
            self.said += 1

    def stop(self) -> None:
        self._send.close()

    async def audio(self) -> AsyncIterator[AudioChunk]:
        with self._receive:
            async for one in self._receive:
                yield one


@define
class Listener:
    wanted: bool = True
    finals: list[str] = field(factory=list)
    notices: list[Notice] = field(factory=list)

    def partial(self, session_id: str, text: str, lang_id: str) -> None: ...

    def final(self, session_id: str, text: str, lang_id: str) -> None:
        self.finals.append(text)

    def notice(self, session_id: str, notice: Notice, lang_id: str) -> None:
        self.notices.append(notice)

    def close(self, session_id: str) -> None: ...


def numbers(frames: Sequence[npt.ArrayLike]) -> npt.NDArray[np.int64]:
    """Numbers of the samples that are no silence, in order."""
    parts = [np.asarray(frame) for frame in frames]
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    found: npt.NDArray[np.int64]
    found = np.rint((samples[samples != 0] - 0.125) * 2**23).astype(np.int64)
    return found - 1


class Scene:
    def __init__(self, *scripts: ConnectionScript) -> None:
        # Its words are beside the point: no restart for want of them.
        capabilities = Capabilities(acks=True, nominal_delay_s=0.48, transcribes=False)
        self.backend = ScriptedBackend(*scripts, capabilities=capabilities)
        self.microphone = Microphone()
        self.listener = Listener()
        self.feed = SpeakerFeed(
            self.microphone,
            backend=self.backend,
            lang_id="en",
            listener=self.listener,
            log=RoomLog("room"),
        )

    def heard(self) -> npt.NDArray[np.int64]:
        """Numbers of the samples that reached the recogniser, in order, from 0."""
        return numbers([f for one in self.backend.connections for f in one.frames])

    async def until(self, condition: Any, limit_s: float = 80) -> None:
        with anyio.fail_after(limit_s):
            # Neither the feed nor the backend tells of its progress.
            while not condition():  # noqa: ASYNC110
                await anyio.sleep(0.2)

    async def until_heard(self, number: int) -> None:
        looked_at = 0

        def came() -> bool:
            nonlocal looked_at
            frames = [f for one in self.backend.connections for f in one.frames]
            new, looked_at = frames[looked_at:], len(frames)
            return number in numbers(new)

        await self.until(came)

    def all_heard(self) -> bool:
        return len(self.heard()) == self.microphone.said * FRAME


def counters(feed: SpeakerFeed) -> tuple[int, float, float]:
    losses = feed.losses
    return losses.gaps, round(losses.gap_s, 6), round(losses.dropped_s, 6)


async def test_the_first_sound_is_heard() -> None:
    scene = Scene()
    scene.microphone.say(0.08)
    scene.microphone.stop()
    with anyio.fail_after(LAST_WORDS_S):
        await scene.feed.run()
    assert np.array_equal(scene.heard(), np.arange(FRAME))
    assert counters(scene.feed) == (0, 0, 0)


async def test_everything_is_heard_in_order_across_a_failure() -> None:
    scene = Scene(REFUSE, ConnectionScript())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.feed.run)
        scene.microphone.say(10)
        await scene.until(lambda: scene.feed.losses.errors == 1)
        # It waits to be opened again.
        scene.microphone.say(10)
        await scene.until(scene.all_heard)
        # It is open.
        scene.microphone.say(10)
        scene.microphone.stop()
    assert np.array_equal(scene.heard(), np.arange(scene.microphone.said * FRAME))
    assert counters(scene.feed) == (0, 0, 0)
    # Told once for the time that she was not heard.
    assert scene.listener.notices == [Notice.LATE]


@pytest.mark.parametrize(("stall_s", "cut"), [(1.2, False), (2.2, True)])
async def test_a_short_stall_cuts_no_word(stall_s: float, cut: bool) -> None:
    """A pause is told by silence in between, which would cut a word in two."""
    scene = Scene()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.feed.run)
        for _ in range(20):
            scene.microphone.say(0.08)
            await anyio.sleep(0.08)
        await anyio.sleep(stall_s)
        scene.microphone.say(0.8)
        await scene.until(scene.all_heard)
        (connection,) = scene.backend.connections
        silent = [not np.any(frame) for frame in connection.frames]
        spoken = [place for place, is_silent in enumerate(silent) if not is_silent]
        assert any(silent[spoken[0] : spoken[-1]]) is cut
        scene.microphone.stop()


async def test_a_session_that_fails_takes_little_with_it() -> None:
    scene = Scene(ConnectionScript(lose_after=25), REFUSE, ConnectionScript())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.feed.run)
        scene.microphone.say(25)
        last = scene.microphone.said * FRAME - 1
        await scene.until_heard(last)
        scene.microphone.stop()
    heard = scene.heard()
    assert np.all(np.diff(heard) > 0)
    missing_s = scene.microphone.said * FRAME / RATE - len(heard) / RATE
    assert 0 < missing_s <= scene.feed.losses.gap_s + 1e-6
    assert missing_s < 5.0
    assert scene.feed.losses.dropped_s == 0
    assert scene.listener.notices[-1] == Notice.LOST


async def test_an_overflow_is_counted_exactly() -> None:
    scene = Scene(REFUSE, ConnectionScript())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.feed.run)
        scene.microphone.say(0.08)
        await scene.until(lambda: scene.feed.losses.errors == 1)
        scene.microphone.say(130)
        last = scene.microphone.said * FRAME - 1
        await scene.until_heard(last)
        scene.microphone.say(0.8)
        scene.microphone.stop()
    said = scene.microphone.said * FRAME
    assert np.array_equal(scene.heard(), np.arange(said - round(120.8 * RATE), said))
    assert counters(scene.feed) == (1, 10.08, 10.08)
    assert scene.listener.notices == [Notice.LATE, Notice.LOST]


async def test_a_recogniser_that_goes_away_later_is_waited_for_less_long() -> None:
    away = ConnectionScript(refuse=CapacityError("full"))
    scene = Scene(ConnectionScript(lose_after=25), *[away] * 24, ConnectionScript())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.feed.run)
        for _ in range(750):
            # Live, not all at once: sixty seconds of them in an outage.
            scene.microphone.say(0.08)
            await anyio.sleep(0.08)
        last = scene.microphone.said * FRAME - 1
        await scene.until_heard(last)
        scene.microphone.stop()
    missing_s = scene.feed.losses.dropped_s
    assert missing_s > 10
    assert scene.feed.losses.gap_s == pytest.approx(missing_s)
    distinct = len(np.unique(scene.heard()))
    assert distinct == scene.microphone.said * FRAME - round(missing_s * RATE)


async def test_a_recogniser_that_never_comes_costs_all_and_ends_in_time() -> None:
    scene = Scene(ConnectionScript(never_ready=True))
    scene.microphone.say(8)
    scene.microphone.stop()
    with anyio.fail_after(LAST_WORDS_S + 0.5):
        await scene.feed.run()
    assert counters(scene.feed) == (1, 8, 8)
    assert scene.listener.notices == [Notice.LATE, Notice.LOST]


async def test_a_recogniser_that_stops_reading_is_waited_for_and_left() -> None:
    scene = Scene(ConnectionScript(stop_reading_after=5))
    scene.microphone.say(20)
    scene.microphone.stop()
    with anyio.fail_after(LAST_WORDS_S + 0.5):
        await scene.feed.run()
    assert len(scene.heard()) == 5 * FRAME
    # No more than four seconds were with the session.
    assert scene.feed.losses.dropped_s == pytest.approx(16, abs=0.2)
    # Nor did it tell what became of those: they count as missing all the same.
    assert scene.feed.losses.gap_s == pytest.approx(20, abs=0.4)


async def test_audio_of_the_old_language_stays_there() -> None:
    scene = Scene(ConnectionScript())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.feed.run)
        scene.microphone.say(8)
        await scene.until(lambda: bool(scene.backend.requests))
        scene.feed.set_language("fr")
        scene.microphone.say(8)
        await scene.until(scene.all_heard)
        scene.microphone.stop()
    assert [request.language for request in scene.backend.requests] == ["en", "fr"]
    assert np.array_equal(scene.heard(), np.arange(scene.microphone.said * FRAME))
    assert counters(scene.feed) == (0, 0, 0)


async def test_the_last_words_after_a_backlog_come_at_once() -> None:
    word = ScriptedWord(text="hello", start=11.0, end=11.9)
    scene = Scene(REFUSE, ConnectionScript(words=(word,)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.feed.run)
        scene.microphone.say(12)
        await scene.until(scene.all_heard)
        # She is silent (muted: no audio at all) and does not leave.
        await scene.until(lambda: scene.listener.finals == ["hello"], limit_s=2)
        scene.microphone.stop()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AuthError("the key is not accepted"), "a speaker's speech-to-text failed: "),
        (ConnectFailed("nobody is there"), "waiting for the recogniser: "),
    ],
)
async def test_a_recogniser_that_is_away_is_told_once(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="live_transcription")
    refuse = ConnectionScript(refuse=error)
    scene = Scene(*(refuse for _ in range(5)), ConnectionScript())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.feed.run)
        scene.microphone.say(10)
        await scene.until(scene.all_heard, limit_s=120)
        scene.microphone.stop()
    assert len(scene.backend.requests) == 6
    assert caplog.messages == [f"{said}{error}", f"over: {said}{error}"]
    for record in caplog.records:
        assert vars(record)["room_token"] == "room"
        assert vars(record)["speaker_session_id"] == "speaker"


async def test_nobody_asked_nobody_listens() -> None:
    scene = Scene()
    scene.listener.wanted = False
    scene.microphone.say(1)
    scene.microphone.stop()
    await scene.feed.run()
    assert scene.backend.requests == []
    assert counters(scene.feed) == (0, 0, 0)
