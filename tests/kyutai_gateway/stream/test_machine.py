"""The stream without I/O: order, silence, pauses and bounds, event by event."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from kyutai_gateway.stream.line import KEEPALIVE, RESET, FlushRequest
from kyutai_gateway.stream.pauses import PauseRule
from kyutai_stream import AuthError, CapacityError, ConnectionLost
from kyutai_stream.backend import (
    Draining,
    Flushed,
    Progress,
    Ready,
    Voice,
    WasReset,
    Word,
    WordEnd,
)

from .made import ABLE, FRAME, actions, machine, step, told


def test_nothing_goes_before_ready() -> None:
    one = machine(ready=False)
    one.binary(FRAME, 0)
    one.text("nonsense", 0)
    assert actions(one) == []
    assert told(one) == []
    one.event(Ready(capabilities=ABLE), 1)
    assert [message["type"] for message in told(one)] == ["ready", "error"]
    assert actions(one) == ["frame"]


def test_the_window() -> None:
    one = machine(window_frames=3)
    one.binary(FRAME * 5, 0)
    assert actions(one) == ["frame"] * 3
    step(one, 2, 0.1)
    assert actions(one, 0.1) == ["frame"] * 2
    assert told(one)[-1]["lag"] == 3 * 1920


def test_without_acks_the_pace() -> None:
    one = machine(evolve(ABLE, acks=False, pause_horizons_s=()), queue_frames=200)
    one.binary(FRAME * 100, 0)
    assert actions(one) == ["frame"] * 25
    assert one.timers.hurry
    assert one.deadline == pytest.approx(0.08 / 3)
    assert len(actions(one, 0.4)) == 15


def test_flush_pads_and_feeds_silence_once() -> None:
    one = machine()
    one.binary(bytes(400), 0)
    one.text('{"type":"flush","id":1}', 0)
    one.text('{"type":"flush"}', 0)
    first, second = FlushRequest(token=1), FlushRequest(token=2)
    assert actions(one) == ["frame"] * 10 + [first, second]
    for count in range(1, 11):
        step(one, count, 0.1)
    acks = told(one)
    assert [ack["samples"] for ack in acks] == [100] * 10
    one.event(Flushed(token=1), 0.2)
    one.event(Flushed(token=2), 0.2)
    assert told(one) == [
        {"type": "flushed", "id": 1, "epoch": 0},
        {"type": "flushed", "id": None, "epoch": 0},
    ]


def test_times_leave_silence_out() -> None:
    one = machine()
    one.binary(FRAME, 0)
    one.text('{"type":"flush","id":1}', 0)
    actions(one)
    one.binary(FRAME * 2, 0)
    actions(one)
    told(one)
    one.event(Word(index=0, text="a", start=0.04), 0)
    one.event(WordEnd(index=0, end=0.5), 0)
    one.event(Word(index=1, text="b", start=0.84), 0)
    times = [message.get("start", message.get("end")) for message in told(one)]
    assert times == [0.04, 0.08, 0.12]


def test_reset_goes_behind_the_silence_and_starts_anew() -> None:
    one = machine(evolve(ABLE, silence_prefix_s=0.16))
    one.binary(FRAME, 0)
    one.text('{"type":"reset","id":5}', 0)
    one.binary(FRAME, 0)
    taken = actions(one)
    assert taken == ["frame"] * 12 + [RESET] + ["frame"] * 3
    step(one, 12, 1)
    assert told(one)[-1]["samples"] == 1920
    one.event(WasReset(), 1)
    assert told(one) == [{"type": "was_reset", "id": 5, "epoch": 1}]
    step(one, 3, 1)
    ack = told(one)[0]
    assert (ack["epoch"], ack["samples"], ack["lag"]) == (1, 1920, 0)
    one.event(Word(index=0, text="a", start=0.2), 0)
    assert told(one)[0]["start"] == pytest.approx(0.04)


def test_a_reset_nobody_asked_for() -> None:
    one = machine()
    one.event(WasReset(), 1)
    assert one.ending.reason == "upstream_lost"


def test_the_pause_waits_for_its_words() -> None:
    one = machine(queue_frames=1000, window_frames=1000)
    one.binary(FRAME * 30, 0)
    actions(one)
    for count in range(1, 14):
        step(one, count, 0.08 * count)
    one.event(Word(index=0, text="a", start=0.1), 1.1)
    step(one, 14, 1.2, 0.9)
    step(one, 15, 1.3, 0.9)
    step(one, 16, 1.4, 0.9)
    kinds = [message["type"] for message in told(one)]
    assert kinds.count("vad_end") == 0
    # The word of that very step came after it: no pause yet.
    one.event(Word(index=1, text="b", start=0.4), 1.41)
    one.tick(2.0)
    assert [message["type"] for message in told(one)] == ["token"]
    step(one, 17, 2.1, 0.9)
    step(one, 18, 2.2, 0.9)
    assert one.timers.hurry
    assert one.deadline == pytest.approx(2.25)
    one.tick(2.25)
    step(one, 19, 2.3, 0.9)
    messages = [one for one in told(one) if one["type"] == "vad_end"]
    assert [message["at"] for message in messages] == [18 * 0.08]
    for count in range(20, 30):
        step(one, count, 3, 0.9)
    assert "vad_end" not in [message["type"] for message in told(one)]


def test_a_pause_needs_words_and_its_first_steps_are_noise() -> None:
    rule = PauseRule()
    assert not any(rule.step((0, 0, 0.9, 0)) for _ in range(40))
    rule.word()
    assert [rule.step((0, 0, 0.9, 0)) for _ in range(4)] == [False, True, False, False]
    rule = PauseRule()
    rule.word()
    assert not any(rule.step((0, 0, 0.9, 0)) for _ in range(12))
    assert not PauseRule().step((0.9, 0.9))


def test_an_ack_without_probabilities_is_told_as_well() -> None:
    one = machine()
    one.binary(FRAME * 2, 0)
    actions(one)
    one.event(Progress(frames_processed=1, lag_frames=0), 0)
    assert told(one) == []
    one.event(Word(index=0, text="a", start=0), 0)
    assert [message["type"] for message in told(one)] == ["ack", "token"]
    one.event(Voice(active=True, at=0), 0)
    assert told(one) == []


def test_keepalive() -> None:
    one = machine()
    assert actions(one, 49) == []
    assert actions(one, 50) == [KEEPALIVE]
    assert actions(one, 99) == []
    one.binary(FRAME, 99)
    assert actions(one, 99) == ["frame"]
    step(one, 1, 99.1)
    assert actions(one, 148) == []
    assert actions(one, 149) == [KEEPALIVE]


def test_a_dead_model_is_looked_at_twice() -> None:
    one = machine()
    one.binary(FRAME * 2, 0)
    actions(one)
    one.tick(7.9)
    step(one, 1, 7.95)
    one.tick(15.9)
    one.tick(15.95)
    assert told(one)[-1]["type"] == "ping"
    one.tick(16.45)
    assert one.ending.reason == "upstream_wedged"
    assert one.ending.close == 1011


def test_a_client_that_does_not_read_is_not_the_models_fault() -> None:
    one = machine()
    one.binary(FRAME, 0)
    actions(one)
    for now in (8.0, 16.0, 24.0):
        one.tick(now, blocked=True)
    # It is read again: the model has its time anew.
    one.tick(24.6)
    one.tick(31.9)
    assert told(one)[-1]["type"] == "ping"
    one.tick(32.0)
    one.tick(32.5)
    assert one.ending.reason == "upstream_wedged"


def test_a_model_that_owes_nothing_is_not_dead() -> None:
    one = machine(idle_timeout_s=1000)
    one.binary(FRAME * 2, 0)
    actions(one)
    step(one, 2, 0.1)
    for now in (8.0, 9.0, 100.0, 101.0):
        one.tick(now)
    assert one.ending is None


def test_eos_ends_with_the_last_words_and_nothing_comes_after() -> None:
    one = machine()
    one.binary(FRAME[:-1], 0)
    one.binary(b"EOS", 0)
    one.binary(FRAME, 0)
    one.text("nonsense", 0)
    assert actions(one) == ["frame"] * 10 + [FlushRequest(token=1)]
    assert [message["code"] for message in told(one)] == ["bad_audio"]
    one.event(Word(index=0, text="a", start=0), 0)
    one.event(Flushed(token=1), 0)
    assert [message["type"] for message in told(one)] == ["token", "end"]
    assert (one.ending.close, one.ending.reason) == (1000, "end")
    one.event(Word(index=1, text="b", start=0), 0)
    one.upstream_failed(None)
    one.gone()
    assert told(one) == []
    assert one.ending.close == 1000


@pytest.mark.parametrize(
    ("error", "code", "close", "retryable"),
    [
        (CapacityError("x"), "capacity", 1013, True),
        (ConnectionLost("x"), "upstream_lost", 1011, True),
        (None, "upstream_lost", 1011, True),
        (AuthError("x"), "internal", 1011, False),
    ],
)
def test_failures_upstream(error: Any, code: str, close: int, retryable: bool) -> None:
    one = machine()
    one.upstream_failed(error)
    (message,) = told(one)
    assert (message["code"], message["retryable"]) == (code, retryable)
    assert one.ending.close == close


def test_draining_of_the_upstream_is_passed_on() -> None:
    one = machine()
    one.event(Draining(deadline_s=10), 5)
    assert told(one) == [{"type": "draining", "deadline_s": 10}]
    # A later, or a second, notice changes nothing.
    one.drain(30, 5)
    assert told(one) == []
    one.tick(12)
    assert actions(one, 12) == [FlushRequest(token=1)]
    one.tick(15)
    assert one.ending.close == 1012


def test_gone_says_nothing() -> None:
    one = machine()
    one.text("nonsense", 0)
    one.gone()
    assert told(one) == []
    assert one.ending.close is None
    one.abandon()
    assert one.ending.close is None


def test_full_by_frames_or_by_messages() -> None:
    one = machine(queue_frames=4, outbox_messages=3, window_frames=1)
    one.binary(FRAME * 3, 0)
    assert not one.full
    one.binary(FRAME, 0)
    assert one.full
    actions(one)
    assert not one.full
    for _ in range(3):
        one.text("x", 0)
    assert one.full


def test_while_it_is_not_read_a_client_is_not_idle() -> None:
    one = machine(queue_frames=2, window_frames=1, idle_timeout_s=10, wedged_s=1000)
    one.binary(FRAME * 4, 0)
    actions(one)
    one.tick(9.5)
    one.tick(18)
    assert one.ending is None
