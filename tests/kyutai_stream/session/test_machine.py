"""The session machine as a whole: audio and time in, frames and events out."""

from __future__ import annotations

import math

import pytest
from attrs import evolve

from kyutai_stream import (
    SessionOptions,
    StateChanged,
)
from kyutai_stream.backend import (
    Progress,
    Ready,
    Word,
)
from kyutai_stream.core import FRAME_S
from kyutai_stream.errors import CapacityError, ConnectFailed
from kyutai_stream.session._actions import Leaving, Wait
from kyutai_stream.session._machine import SessionMachine

from .driver import KYUTAI, Driver


class TestStates:
    def test_the_backend_that_really_serves_is_named(self) -> None:
        machine = SessionMachine("first", SessionOptions(), None, 0.0)
        machine.connecting()
        machine.receive(Ready(capabilities=KYUTAI, backend="second"), 1.0)
        changes = [e for e in machine.events() if isinstance(e, StateChanged)]
        assert [(c.state.value, c.backend) for c in changes] == [
            ("connecting", "first"),
            ("ready", "second"),
        ]
        machine.receive(Ready(capabilities=KYUTAI), 1.0)
        (change,) = machine.events()
        assert isinstance(change, StateChanged) and change.backend == "first"

    def test_nothing_is_told_twice(self) -> None:
        driver = Driver(up=False, error=ConnectFailed("refused"))
        driver.wait(20.0)
        assert driver.shown.states == ["connecting", "reconnecting"]
        assert len(driver.attempts) > 4

    def test_why_is_told_in_words(self) -> None:
        driver = Driver(up=False, error=CapacityError("full"))
        driver.wait(0.1)
        (_, change) = driver.shown.events
        assert isinstance(change, StateChanged) and change.detail == "full"

    def test_nothing_is_heard_before_ready(self) -> None:
        machine = SessionMachine("test", SessionOptions())
        machine.receive(Word(index=0, text="early", start=0.0), 0.0)
        machine.receive(Progress(frames_processed=5, lag_frames=0), 0.0)
        assert machine.events() == []
        assert machine.next_action(0.0) == Wait(until=math.inf)
        assert not machine.is_ready

    def test_what_comes_too_late_is_harmless(self) -> None:
        machine = SessionMachine("test", SessionOptions())
        machine.sent(0.0)
        machine.kept_alive(0.0)
        machine.excuse(0.0)
        machine.left(Leaving.RESTART, 0.0)
        assert machine.connect_due(0.0) == 0.0


def test_a_connection_may_narrow_the_capabilities() -> None:
    driver = Driver()
    driver.say("ba be")
    driver.capabilities = evolve(KYUTAI, acks=False, nominal_delay_s=0.0)
    driver.lose()
    driver.say("bi bo")
    driver.wait(1.0)
    driver.end()
    driver.require_whole()
    # No delay: nothing needs to be fed for a flush.
    assert len(driver.connections[1].frames) * FRAME_S < 4.0
    assert driver.shown.usage.audio_processed_s < driver.shown.usage.audio_sent_s


class TestFigures:
    def test_usage_adds_up(self) -> None:
        driver = Driver()
        driver.say("ba be bi")
        driver.lose()
        driver.wait(0.5)
        driver.say("bo")
        driver.end()
        usage = driver.shown.usage
        assert usage.audio_pushed_s == pytest.approx(2.0)
        assert usage.audio_sent_s == pytest.approx(driver.audio.frames_sent_s())
        assert usage.audio_processed_s == pytest.approx(usage.audio_sent_s)
        assert usage.replayed_s == pytest.approx(driver.audio.sent_again_s(), abs=0.1)
        assert usage.silence_s == pytest.approx(driver.audio.fed_silence_s())
        assert (usage.words, usage.connections, usage.gap_s) == (4, 2, 0.0)
        assert usage.connected_s == pytest.approx(2.5 - 0.38, abs=0.1)

    def test_metrics_say_what_happened(self) -> None:
        driver = Driver(up=False, error=CapacityError("full"))
        driver.wait(0.1)
        driver.up = True
        driver.say("ba be bi")
        driver.lose()
        driver.wait(1.7)
        metrics = driver.machine.metrics(driver.now)
        assert (metrics.failed_attempts, metrics.capacity_refusals) == (1, 1)
        assert metrics.reconnects == 1
        assert metrics.duplicates_dropped >= 1
        assert metrics.time_to_first_word_s == pytest.approx(0.3 + 0.48, abs=0.1)
        assert metrics.word_latency.count == 3
        assert metrics.waiting_s == pytest.approx(0.0, abs=0.09)

    def test_delays(self) -> None:
        driver = Driver()
        driver.say("ba be bi")
        driver.wait(1.7)
        metrics = driver.machine.metrics(driver.now)
        # The model's delay, and what frames and steps add.
        assert 0.4 <= metrics.word_latency.p50_s <= 0.48 + 0.16
        assert metrics.time_to_final_segment.count == 1
        assert metrics.finalization_delay.count == 1
        assert metrics.finalization_delay.max_s <= 0.05

    def test_before_anything_there_is_nothing(self) -> None:
        metrics = SessionMachine("test", SessionOptions()).metrics(0.0)
        assert metrics.time_to_first_word_s is None
        assert metrics.usage.audio_pushed_s == 0
        assert metrics.server_lag_s == 0
