from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.backend import (
    ConnectionEvent,
    Flushed,
    Pause,
    Progress,
    WasReset,
    Word,
    WordEnd,
)
from kyutai_stream.backends._websocket import Ended
from kyutai_stream.backends.moshi_server._stream import (
    HORIZONS_S,
    MARGIN_S,
    STALL_S,
    WORDS_FOLLOW_S,
    MoshiStream,
    Profile,
)
from kyutai_stream.errors import ConnectionLost, ProtocolError
from kyutai_stream.wire import moshi

RUST = Profile(steps=True, markers=True)
NO_HEADS = Profile(steps=False, markers=True)
PYTHON = Profile(steps=False, markers=False, late_s=0.48)
PRS = (0.1, 0.2, 0.3, 0.4)


class Driven:
    """A stream with a clock of its own."""

    def __init__(self, profile: Profile = RUST) -> None:
        self.stream = MoshiStream(profile)
        self.now = 100.0

    def send(self, frames: int) -> None:
        for _ in range(frames):
            self.stream.sent(self.now)

    def hear(self, kind: str, **fields: Any) -> list[ConnectionEvent]:
        message = msgpack.packb({"type": kind, **fields})
        self.stream.receive(message, self.now)
        return self.stream.events()

    def step(self, count: int = 1) -> list[ConnectionEvent]:
        events = []
        for _ in range(count):
            events += self.hear("Step", step_idx=408, prs=PRS, buffered_pcm=0)
        return events

    def wait(self, seconds: float) -> list[ConnectionEvent]:
        until = self.now + seconds
        while self.stream.deadline <= until:
            self.now = max(self.now, self.stream.deadline)
            self.stream.tick(self.now)
        self.now = until
        return self.stream.events()


def progress(events: list[ConnectionEvent]) -> list[tuple[int, int]]:
    return [
        (event.frames_processed, event.lag_frames)
        for event in events
        if isinstance(event, Progress)
    ]


class TestSteps:
    def test_a_step_stands_for_one_frame_whatever_its_index(self) -> None:
        driven = Driven()
        driven.send(3)
        events = driven.step(2)
        assert progress(events) == [(1, 2), (2, 1)]
        assert events[1] == Pause(probabilities=PRS, horizons_s=HORIZONS_S)

    def test_other_numbers_of_heads_are_left_out(self) -> None:
        driven = Driven()
        driven.send(1)
        assert len(driven.hear("Step", prs=[0.5])) == 1

    def test_more_steps_than_frames_give_the_python_server_away(self) -> None:
        driven = Driven()
        driven.send(1)
        driven.step()
        with pytest.raises(ProtocolError, match="python_server"):
            driven.step()


class TestWords:
    def test_indexes_ends_and_empty_words(self) -> None:
        driven = Driven()
        assert driven.hear("Word", text="", start_time=0.0) == []
        assert driven.hear("EndWord", stop_time=0.1) == []
        events = driven.hear("Word", text=" Hello  you", start_time=0.5)
        events += driven.hear("Word", text="all.", start_time=1)
        events += driven.hear("EndWord", stop_time=1.5)
        events += driven.hear("EndWord", stop_time=1.6)
        assert events == [
            Word(index=0, text="Hello you", start=0.5),
            Word(index=1, text="all.", start=1.0),
            WordEnd(index=1, end=1.5),
        ]

    def test_the_end_of_an_empty_word_is_nobodys(self) -> None:
        driven = Driven()
        driven.hear("Word", text="one", start_time=0.5)
        driven.hear("Word", text=" ", start_time=0.6)
        assert driven.hear("EndWord", stop_time=0.7) == []

    def test_times_of_the_python_server_include_its_delay(self) -> None:
        driven = Driven(PYTHON)
        (word,) = driven.hear("Word", text="a", start_time=1.48)
        (end,) = driven.hear("EndWord", stop_time=0.3)
        assert isinstance(word, Word) and word.start == pytest.approx(1.0)
        assert isinstance(end, WordEnd) and end.end == 0.0


class TestFlush:
    def test_confirmed_a_moment_after_the_covering_step(self) -> None:
        driven = Driven()
        driven.send(3)
        driven.step(2)
        assert driven.stream.flush(7, driven.now) is None
        assert driven.wait(1.0) == []
        driven.step()
        events = driven.hear("Word", text="last", start_time=0.1)
        assert Flushed(token=7) not in events
        assert driven.wait(WORDS_FOLLOW_S) == [Flushed(token=7)]
        assert driven.stream.deadline == math.inf

    def test_the_next_step_confirms_at_once_and_first(self) -> None:
        driven = Driven()
        driven.send(1)
        driven.stream.flush(1, driven.now)
        driven.send(1)
        assert Flushed(token=1) not in driven.step()
        assert driven.step()[0] == Flushed(token=1)

    def test_with_nothing_owed_it_takes_a_moment_only(self) -> None:
        driven = Driven()
        driven.stream.flush(1, driven.now)
        driven.stream.flush(2, driven.now)
        assert driven.wait(WORDS_FOLLOW_S) == [Flushed(token=1), Flushed(token=2)]

    def test_steps_keep_a_slow_server_alive_and_silence_ends_it(self) -> None:
        driven = Driven()
        driven.send(3)
        driven.stream.flush(1, driven.now)
        driven.wait(STALL_S - 1)
        driven.step()
        driven.wait(STALL_S - 1)
        with pytest.raises(ConnectionLost, match="no step"):
            driven.wait(2)

    def test_no_step_ever_hints_at_the_other_model(self) -> None:
        driven = Driven()
        driven.send(1)
        driven.stream.flush(1, driven.now)
        with pytest.raises(ConnectionLost, match="2.6b"):
            driven.wait(STALL_S)

    def test_without_steps_it_waits_as_long_as_real_time_needs(self) -> None:
        driven = Driven(PYTHON)
        driven.send(10)
        assert driven.stream.flush(1, driven.now) is None
        assert driven.wait(0.8 + MARGIN_S - 0.01) == []
        driven.step()
        driven.hear("Word", text="late", start_time=1.0)
        assert driven.wait(MARGIN_S - 0.01) == []
        assert driven.wait(0.02) == [Flushed(token=1)]

    def test_without_steps_a_marker_confirms_sooner(self) -> None:
        driven = Driven(NO_HEADS)
        driven.send(10)
        assert driven.stream.flush(5, driven.now) == moshi.encode_marker(1)
        assert driven.stream.flush(6, driven.now) == moshi.encode_marker(2)
        assert driven.hear("Marker", id=1) == [Flushed(token=5)]
        assert driven.hear("Marker", id=1) == []
        assert driven.hear("Marker", id=9) == [Flushed(token=6)]

    def test_without_steps_the_wait_counts_from_the_last_frame(self) -> None:
        driven = Driven(NO_HEADS)
        driven.send(10)
        driven.wait(5.0)
        driven.send(1)
        driven.stream.flush(1, driven.now)
        assert driven.wait(0.08 + MARGIN_S + 0.001) == [Flushed(token=1)]


class TestReset:
    def test_steps_owed_are_counted_for_the_old_epoch(self) -> None:
        driven = Driven()
        driven.send(3)
        driven.step()
        driven.hear("Word", text="old", start_time=0.1)
        assert driven.stream.reset(driven.now) == moshi.INIT
        driven.send(2)
        assert progress(driven.step(2)) == [(2, 1), (3, 0)]
        assert driven.hear("Ready") == [WasReset()]
        assert progress(driven.step(2)) == [(1, 1), (2, 0)]
        assert driven.hear("EndWord", stop_time=0.1) == []
        words = driven.hear("Word", text="new", start_time=0.0)
        assert words == [Word(index=0, text="new", start=0.0)]
        assert driven.stream.deadline == math.inf

    def test_flushes_keep_their_side_of_it(self) -> None:
        driven = Driven()
        driven.send(2)
        driven.step()
        driven.stream.flush(1, driven.now)
        driven.stream.reset(driven.now)
        driven.stream.flush(2, driven.now)
        assert driven.wait(1) == []
        assert driven.hear("Ready") == [Flushed(token=1), WasReset()]
        assert driven.wait(1) == [Flushed(token=2)]

    def test_one_that_is_never_answered_ends_the_connection(self) -> None:
        driven = Driven(NO_HEADS)
        driven.stream.reset(driven.now)
        with pytest.raises(ConnectionLost):
            driven.wait(STALL_S)

    def test_steps_show_that_it_is_still_in_line(self) -> None:
        driven = Driven()
        driven.send(2)
        driven.stream.reset(driven.now)
        driven.wait(STALL_S - 1)
        driven.step()
        assert driven.wait(STALL_S - 1) == []

    def test_two_in_a_row(self) -> None:
        driven = Driven()
        driven.stream.reset(driven.now)
        driven.stream.reset(driven.now)
        driven.send(1)
        assert driven.hear("Ready") + driven.hear("Ready") == [WasReset(), WasReset()]
        assert progress(driven.step()) == [(1, 0)]

    def test_a_server_that_restarts_by_itself_is_lost(self) -> None:
        with pytest.raises(ConnectionLost):
            Driven().hear("Ready")


def test_the_rest() -> None:
    driven = Driven()
    assert driven.hear("Bell") == []
    assert driven.hear("Marker", id=3) == []
    with pytest.raises(ConnectionLost):
        driven.hear("Error", message="boom")
    error = driven.stream.ended(Ended(1006), driven.now)
    assert isinstance(error, ConnectionLost) and "1006" in str(error)
    kept = driven.stream.ended(Ended(1006, by_us=1011), driven.now)
    assert isinstance(kept, ConnectionLost) and "ping" in str(kept)
    broken = driven.stream.ended(Ended(1006, by_us=1009), driven.now)
    assert isinstance(broken, ProtocolError)


@given(st.lists(st.sampled_from(["send", "step", "flush", "reset", "wait"])))
def test_every_frame_flush_and_reset_is_answered_once_and_in_order(
    acts: list[str],
) -> None:
    """An honest server that may lag; the order of answers is the order of asking."""
    driven = Driven()
    asked: list[ConnectionEvent] = []
    answered: list[ConnectionEvent] = []
    line: list[str] = []
    for number, act in enumerate(acts):
        match act:
            case "send":
                driven.send(1)
                line.append("Step")
            case "step" if line:
                answered += _answer(driven, line)
            case "flush":
                driven.stream.flush(number, driven.now)
                asked.append(Flushed(token=number))
            case "reset":
                driven.stream.reset(driven.now)
                line.append("Ready")
                asked.append(WasReset())
            case "wait":
                answered += driven.wait(0.1)
    while line:
        answered += _answer(driven, line)
    answered += driven.wait(1.0)
    told = [event for event in answered if isinstance(event, Flushed | WasReset)]
    assert told == asked
    assert len(progress(answered)) == acts.count("send")


def _answer(driven: Driven, line: list[str]) -> list[ConnectionEvent]:
    return driven.step() if line.pop(0) == "Step" else driven.hear("Ready")
