"""The stream without I/O: what ends it, by time, by size, by either side."""

from __future__ import annotations

import numpy as np
import pytest
from attrs import evolve

from kyutai_gateway.stream import StreamMachine, StreamRules
from kyutai_gateway.stream.line import FlushRequest
from kyutai_stream.backend import Flushed, Pause, Progress, Ready, Word, WordEnd

from .made import ABLE, FRAME, actions, machine, step, told

LOUD = np.full(1920, 0.1, "<f4").tobytes()


def test_a_silent_client_is_one_too_many() -> None:
    one = machine(idle_timeout_s=10)
    one.binary(FRAME, 4)
    one.binary(b"", 8)
    assert one.samples == 1920
    actions(one, 8)
    step(one, 1, 8)
    one.tick(17.9)
    assert [message["type"] for message in told(one)] == ["ack", "ping"]
    one.tick(18)
    assert (one.ending.close, one.ending.reason) == (1000, "idle_timeout")


def test_so_is_one_without_speech() -> None:
    one = machine(idle_timeout_s=1000, quiet_timeout_s=20, wedged_s=1000)
    one.binary(LOUD, 15)
    one.binary(FRAME, 34)
    one.tick(34.9)
    assert one.ending is None
    one.tick(35)
    assert told(one)[-1]["message"] == "no speech for too long"


def test_a_word_is_speech() -> None:
    one = machine(idle_timeout_s=1000, quiet_timeout_s=20)
    one.event(Word(index=0, text="a", start=0), 15)
    one.tick(34.9)
    assert one.ending is None


@pytest.mark.parametrize(
    ("data", "close"),
    [(bytes(2 * 1024 * 1024 + 4), 1009), (b"\xff" * 4 * 1920, 1003)],
)
def test_what_is_no_audio(data: bytes, close: int) -> None:
    one = machine()
    one.binary(data, 0)
    (message,) = told(one)
    assert (message["code"], message["retryable"]) == ("bad_audio", False)
    assert one.ending.close == close
    one.fail("internal", "too late")
    one.tick(1000)
    assert told(one) == []


def test_a_client_that_does_not_read_is_not_told_why() -> None:
    one = machine()
    one.text("nonsense", 0)
    one.abandon()
    assert told(one) == []
    assert (one.ending.close, one.ending.reason) == (1011, "not_read")


def test_eos_as_text() -> None:
    one = machine()
    one.binary(FRAME, 0)
    assert one.has_work
    one.text('{"type":"eos"}', 0)
    assert actions(one) == ["frame"] * 10 + [FlushRequest(token=1)]
    assert not one.has_work


def test_an_old_stream_is_sent_away_with_its_last_words() -> None:
    one = machine(max_stream_s=100, rotation_notice_s=30, idle_timeout_s=1000)
    one.tick(100)
    assert told(one)[-1] == {"type": "draining", "deadline_s": 30}
    one.tick(127)
    assert actions(one, 127) == [FlushRequest(token=1)]
    one.event(Flushed(token=1), 127.1)
    assert told(one)[-1]["code"] == "draining"
    assert one.ending.close == 1012


def test_who_has_finished_is_not_made_to_finish_again() -> None:
    one = machine()
    one.drain(10, 0)
    one.text('{"type":"eos"}', 1)
    one.tick(7)
    assert actions(one, 7) == [FlushRequest(token=1)]
    one = machine()
    one.text('{"type":"eos"}', 0)
    one.drain(10, 1)
    one.tick(8)
    assert actions(one, 8) == [FlushRequest(token=1)]


def test_nobody_waits_for_a_model_that_is_to_go() -> None:
    one = machine(ready=False)
    one.drain(10, 0)
    assert one.ending.close == 1012
    one.event(Ready(capabilities=ABLE), 1)
    assert [message["type"] for message in told(one)] == ["draining", "error"]


def test_a_model_without_pauses_is_acknowledged_at_once() -> None:
    one = machine(evolve(ABLE, pause_horizons_s=()))
    one.binary(FRAME, 0)
    actions(one)
    one.event(Progress(frames_processed=1, lag_frames=0), 0)
    assert told(one)[0]["prs"] == []


@pytest.mark.parametrize("horizons_s", [(), ABLE.pause_horizons_s])
def test_without_acks_a_step_says_nothing(horizons_s: tuple[float, ...]) -> None:
    one = machine(evolve(ABLE, acks=False, pause_horizons_s=horizons_s))
    one.event(Progress(frames_processed=1, lag_frames=0), 0)
    one.event(Pause(probabilities=(0, 0, 0, 0), horizons_s=ABLE.pause_horizons_s), 0)
    assert told(one) == []


def test_what_waits_is_told_before_the_end() -> None:
    one = machine(window_frames=100, queue_frames=100)
    one.binary(FRAME * 20, 0)
    actions(one)
    one.event(Word(index=0, text="a", start=0), 0)
    for count in range(1, 14):
        step(one, count, 0.1, 0.9)
    told(one)
    one.event(Progress(frames_processed=14, lag_frames=0), 0.1)
    one.event(WordEnd(index=0, end=0.3), 0.1)
    assert [message["type"] for message in told(one)] == ["vad_end", "ack", "word_end"]
    one.event(Progress(frames_processed=15, lag_frames=0), 0.1)
    one.upstream_failed(None)
    assert [message["type"] for message in told(one)] == ["ack", "error"]


def test_steps_are_timed() -> None:
    took: list[float] = []
    rules = StreamRules()
    one = StreamMachine(
        rules, model="m", capabilities=ABLE, now=0.0, step_took=took.append
    )
    one.event(Ready(capabilities=ABLE), 0.0)
    one.binary(FRAME * 2, 1.0)
    actions(one, 1.0)
    step(one, 1, 1.25)
    step(one, 1, 1.5)
    assert took == [0.25]
