"""The time without a connection."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kyutai_stream import (
    Capabilities,
    RetryPolicy,
    SessionOptions,
    StateChanged,
)
from kyutai_stream.backend import Progress, Voice, Word
from kyutai_stream.core import SAMPLE_RATE
from kyutai_stream.errors import AuthError, CapacityError
from kyutai_stream.session._actions import Leaving

from .driver import Driver


class TestRetries:
    def test_slower_and_slower_with_jitter(self) -> None:
        driver = Driver(up=False)
        driver.wait(20.0)
        apart = np.diff(driver.attempts)
        # The driver's jitter is half of what is possible.
        expected = [0.375, 0.75, 1.5, 3.0, 3.0]
        assert apart[:5] == pytest.approx(expected, abs=0.03)

    def test_after_the_budget_slowly_and_it_is_told(self) -> None:
        driver = Driver(up=False)
        driver.wait(200.0)
        slow = [at for at in driver.attempts if at > 100 + 125]
        assert np.diff(slow) == pytest.approx(22.5, abs=0.05)
        assert isinstance(driver.shown.events[-1], StateChanged)
        assert driver.shown.events[-1].detail == "down (trying every 30 s)"

    def test_a_connection_after_that_is_as_good(self) -> None:
        driver = Driver(up=False)
        driver.wait(150.0)
        driver.up = True
        driver.wait(30.0)
        driver.say("ba be")
        driver.wait(1.0)
        assert driver.shown.text == "ba be"
        assert driver.shown.states[-1] == "ready"

    def test_a_server_that_says_when_is_obeyed_within_reason(self) -> None:
        for asked, waited in ((6.0, 6.0), (3600.0, 30.0), (None, 0.375)):
            error = CapacityError("full", retry_after_s=asked)
            driver = Driver(up=False, error=error)
            driver.wait(32.0)
            assert np.diff(driver.attempts)[0] == pytest.approx(waited, abs=0.03)

    def test_what_cannot_get_better_is_not_tried_again(self) -> None:
        driver = Driver(up=False, error=AuthError("wrong key"))
        driver.wait(60.0)
        assert driver.gave_up
        assert len(driver.attempts) == 1

    def test_giving_up_is_an_option(self) -> None:
        retry = RetryPolicy(give_up_s=10.0)
        driver = Driver(up=False, options=SessionOptions(retry=retry))
        driver.wait(60.0)
        assert driver.gave_up
        assert driver.attempts[-1] - 100 == pytest.approx(10.0, abs=4.0)

    def test_audio_that_kills_servers_is_held_back(self) -> None:
        driver = Driver()
        driver.noise(0.5)
        for wait_s in (2.0, 2.0, 8.0):
            driver.lose()
            lost = driver.now
            driver.wait(wait_s)
        assert driver.attempts[-1] - lost == pytest.approx(7.5, abs=0.03)

    def test_a_stable_connection_is_replaced_soon(self) -> None:
        driver = Driver()
        for _ in range(6):
            driver.say("ba be bi", gap_s=1.6)
            driver.lose()
            lost = driver.now
            driver.wait(1.0)
            assert driver.attempts[-1] - lost <= 0.4


class TestIdle:
    @pytest.mark.parametrize("lost", [False, True])
    def test_speech_that_waits_is_sent_first(self, lost: bool) -> None:
        # The server took longer to come than the place is kept without sound.
        driver = Driver(starts_in_s=0.0 if lost else 90.0)
        driver.say("ba be bi")
        if lost:
            driver.starts_in_s = 90.0
            driver.lose()
        driver.wait(95.0)
        driver.end()
        driver.require_whole()

    def test_the_place_is_given_back_and_taken_again(self) -> None:
        driver = Driver()
        driver.say("ba be")
        silent = driver.now
        driver.quiet(70.0)
        assert driver.shown.states == ["connecting", "ready", "idle"]
        idle_at = driver.shown.times[-1]
        assert idle_at - silent == pytest.approx(60.0 - 0.2, abs=0.1)
        driver.say("bi bo")
        driver.wait(1.0)
        driver.end()
        driver.require_whole()
        assert driver.shown.states[3:] == ["reconnecting", "ready", "closed"]
        assert len(driver.connections) == 2
        assert driver.audio.sent_again_s() == 0

    def test_not_within_an_utterance(self) -> None:
        capabilities = Capabilities(acks=True, endpointing=True)
        options = SessionOptions(idle_release_s=1.0)
        driver = Driver(capabilities=capabilities, options=options)
        driver.noise(0.5)
        driver.receive(Voice(active=True, at=0.0))
        driver.receive(Word(index=0, text="well", start=0.0))
        driver.quiet(4.0)
        assert driver.left == []
        driver.receive(Voice(active=False, at=0.5))
        driver.quiet(0.1)
        assert driver.left == [Leaving.IDLE]

    def test_the_quiet_before_the_first_sound_is_sent_along(self) -> None:
        driver = Driver()
        driver.quiet(65.0)
        before = driver.pushed
        driver.say("ba")
        driver.wait(1.0)
        pre_roll = (before - driver.first_sent(1)) / SAMPLE_RATE
        assert pre_roll == pytest.approx(1.0, abs=0.1)

    def test_muted_counts_as_silent(self) -> None:
        driver = Driver()
        driver.say("ba")
        driver.wait(61.0)
        assert driver.shown.states[-1] == "idle"
        assert driver.machine.connect_due(driver.now) == math.inf
        driver.say("be")
        driver.end()
        driver.require_whole()
        assert driver.audio.sent_again_s() == 0

    def test_quiet_is_neither_kept_nor_lost(self) -> None:
        driver = Driver()
        driver.quiet(200.0)
        assert driver.machine._feeder.ring.held <= 1.2 * SAMPLE_RATE
        driver.end()
        assert driver.shown.gaps == []
        assert driver.machine.metrics(driver.now).skipped_quiet_s > 130

    def test_a_flush_meanwhile_needs_no_connection(self) -> None:
        driver = Driver()
        driver.quiet(65.0)
        mark = driver.machine.intake.request_flush()
        driver.wait(0.1)
        assert mark in driver.fulfilled
        assert len(driver.attempts) == 1

    def test_an_end_meanwhile_needs_none_either(self) -> None:
        driver = Driver()
        driver.quiet(65.0)
        driver.end()
        assert len(driver.attempts) == 1
        assert driver.shown.gaps == []

    def test_never_is_an_option(self) -> None:
        driver = Driver(options=SessionOptions(idle_release_s=None))
        driver.quiet(90.0)
        assert driver.left == []

    def test_a_cold_start_may_follow(self) -> None:
        driver = Driver(options=SessionOptions(replay_s=5.0))
        driver.say("ba")
        driver.wait(61.0)
        driver.up = False
        driver.say("be bi bo bu " * 10)
        driver.up = True
        driver.wait(6.0)
        driver.end()
        driver.require_whole()


class TestEnd:
    def test_sending_the_same_again_is_no_progress(self) -> None:
        driver = Driver()
        driver.frozen = True
        driver.say("ba be bi bo bu")
        driver.machine.intake.end_input(driver.now)
        ended = driver.now
        while not driver.over and driver.now < ended + 100:
            driver.wait(0.1)
            if driver.machine.is_ready:
                driver.receive(Progress(frames_processed=3, lag_frames=0))
                driver.lose()
        assert driver.now - ended <= 31.0

    def test_all_words_come_first(self) -> None:
        driver = Driver()
        driver.say("ba be", gap_s=0.0)
        driver.end()
        driver.require_whole()
        assert driver.left == [Leaving.FINISHED]
        assert driver.shown.states[-1] == "closed"

    def test_with_nothing_said_no_connection_is_waited_for(self) -> None:
        driver = Driver(starts_in_s=1e6)
        driver.machine.intake.end_input(driver.now)
        assert driver.machine.connect_due(driver.now) is None

    def test_a_recogniser_that_does_not_get_on_is_left(self) -> None:
        driver = Driver(options=SessionOptions(progress_timeout_s=1e6))
        driver.say("ba be")
        driver.frozen = True
        driver.say("bi")
        driver.machine.intake.end_input(driver.now)
        ended = driver.now
        while not driver.over and driver.now < ended + 100:
            driver.wait(0.1)
        driver.close()
        assert driver.now - ended == pytest.approx(30.0, abs=0.2)
        assert driver.failures == ["the last words did not come in time"]
        assert driver.shown.gaps[-1].reason == "not transcribed"
        assert not (
            driver.audio.sounding & ~driver.audio.was_sent() & ~driver.in_gaps()
        ).any()

    def test_before_the_first_connection_there_is_more_time(self) -> None:
        driver = Driver(up=False)
        driver.say("ba")
        driver.machine.intake.end_input(driver.now)
        ended = driver.now
        assert driver.machine.end_due == pytest.approx(ended + 120.0)
        while not driver.over and driver.now < ended + 200:
            driver.wait(0.1)
        assert driver.now - ended == pytest.approx(120.0, abs=0.2)
        driver.close()
        (gap,) = driver.shown.gaps
        assert (gap.start, gap.reason) == (0.0, "not transcribed")
        assert gap.end == pytest.approx(0.5)

    def test_a_backlog_that_gets_on_is_waited_for(self) -> None:
        options = SessionOptions(catch_up_speed=0.5, end_timeout_s=5.0)
        driver = Driver(up=False, options=options)
        driver.say("ba be bi bo bu da de di do du", word_s=0.6, gap_s=0.6)
        driver.up = True
        driver.wait(4.0)
        driver.end()
        driver.require_whole()

    def test_ending_twice_is_ending_once(self) -> None:
        driver = Driver()
        driver.say("ba")
        driver.machine.intake.end_input(driver.now)
        driver.wait(0.05)
        driver.machine.intake.end_input(driver.now)
        driver.end()
        assert driver.asked.count("AskFlush") == 1
