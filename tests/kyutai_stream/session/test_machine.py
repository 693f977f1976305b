"""The session machine as a whole: audio and time in, frames and events out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from attrs import evolve

from kyutai_stream import (
    Capabilities,
    DeafRules,
    Endpoint,
    Final,
    FinalReason,
    LanguageMismatch,
    Partial,
    RetryPolicy,
    SessionOptions,
    SpeechStarted,
    StateChanged,
)
from kyutai_stream.backend import (
    Draining,
    Flushed,
    Pause,
    Progress,
    Ready,
    Voice,
    Word,
    WordEnd,
)
from kyutai_stream.core import FRAME_S, SAMPLE_RATE
from kyutai_stream.errors import AuthError, CapacityError, ConnectFailed
from kyutai_stream.session._actions import Leaving, Send, Wait
from kyutai_stream.session._machine import SessionMachine

from .driver import KYUTAI, LOUD, Driver, positions

OWN_ENDPOINTS = Capabilities(acks=True, endpointing=True)
NO_ACKS = Capabilities(acks=False, nominal_delay_s=0.48)


def first_position(driver: Driver, connection: int) -> int:
    """Number of the first sample of the speaker that a connection was sent."""
    for frame in driver.connections[connection].frames:
        found = positions(frame)
        if (found >= 0).any():
            return int(found[found >= 0][0])
    raise AssertionError("it was sent nothing")


class TestReplay:
    def test_a_cut_loses_and_doubles_nothing(self) -> None:
        driver = Driver()
        driver.say("ba be bi bo bu")
        driver.lose()
        driver.say("da de di")
        driver.end()
        driver.require_whole()
        assert driver.states == [
            *["connecting", "ready", "reconnecting", "ready", "closed"]
        ]
        reasons = [final.reason for final in driver.finals]
        assert reasons == [FinalReason.DISCONNECT, FinalReason.FLUSH]

    def test_it_begins_in_the_quiet_before_the_last_word(self) -> None:
        driver = Driver()
        driver.say("ba be bi bo", word_s=0.4, gap_s=0.3)
        driver.lose()
        driver.wait(1.0)
        # "bi" came out last: from a second before its end on, in a pause.
        begin = driver.words[2].media + 0.4 - 1.0
        first = first_position(driver, 1)
        assert begin - 0.4 <= first / SAMPLE_RATE <= begin
        assert not driver.sounding[first]

    def test_no_more_than_needed_is_sent_again(self) -> None:
        driver = Driver()
        driver.say("ba be bi bo bu " * 8)
        driver.lose()
        driver.wait(2.0)
        assert driver.sent_again_s() <= 1.5 + 0.48 + 1.0

    def test_frames_begin_anew_on_each_connection(self) -> None:
        driver = Driver()
        driver.noise(0.1)
        driver.lose()
        driver.noise(0.1)
        driver.end()
        assert first_position(driver, 1) == 0
        assert driver.was_sent().all()

    def test_a_connection_that_never_was_ready_loses_nothing(self) -> None:
        driver = Driver(up=False)
        driver.say("ba be")
        driver.up = True
        driver.wait(3.0)
        driver.end()
        driver.require_whole()
        assert driver.usage.replayed_s == 0

    def test_an_outage_of_thirty_seconds(self) -> None:
        driver = Driver()
        driver.say("ba be bi")
        driver.up = False
        driver.lose()
        driver.say(" ".join(f"{a}{b}" for a in "dfgklm" for b in "aeiou"), gap_s=0.7)
        driver.up = True
        driver.wait(12.0)
        driver.end()
        driver.require_whole()

    def test_a_backlog_is_sent_at_five_times_real_time(self) -> None:
        driver = Driver(up=False)
        driver.noise(20.0)
        driver.up = True
        driver.wait(6.0)
        times = [at for at, _ in driver.sent]
        assert 250 * FRAME_S / (times[-1] - times[0]) == pytest.approx(5.5, abs=0.6)

    def test_quiet_of_a_backlog_is_shortened(self) -> None:
        driver = Driver(up=False)
        driver.say("ba", gap_s=9.0)
        driver.say("be", gap_s=9.0)
        driver.up = True
        driver.wait(5.0)
        driver.end()
        driver.require_whole()
        metrics = driver.machine.metrics(driver.now)
        assert metrics.skipped_quiet_s > 14
        assert driver.frames_sent_s() < 6

    def test_without_acknowledgements_ten_seconds_are_sent_again(self) -> None:
        driver = Driver(capabilities=NO_ACKS, options=SessionOptions(deaf=None))
        driver.noise(20.0)
        driver.lose()
        driver.wait(1.0)
        assert first_position(driver, 1) / SAMPLE_RATE == pytest.approx(10.0, abs=0.5)

    def test_of_an_utterance_that_has_not_ended_all_is_sent_again(self) -> None:
        driver = Driver(capabilities=OWN_ENDPOINTS)
        driver.quiet(2.0)
        driver.receive(Voice(active=True, at=2.0))
        driver.noise(6.0)
        driver.receive(Word(index=0, text="early", start=2.1))
        driver.lose()
        driver.wait(1.0)
        assert first_position(driver, 1) / SAMPLE_RATE == pytest.approx(1.0, abs=0.45)

    def test_memory_ends_with_the_audio_kept(self) -> None:
        driver = Driver()
        for _ in range(20):
            driver.say("ba be bi bo bu")
            held = driver.machine._feeder.ring.held
            assert held <= 5 * SAMPLE_RATE


class TestFlush:
    def test_a_stall_brings_out_the_last_word(self) -> None:
        driver = Driver()
        driver.say("ba be", gap_s=0.05)
        muted = driver.now
        driver.wait(1.0)
        (final,) = driver.finals
        assert (final.text, final.reason) == ("ba be", FinalReason.FLUSH)
        assert driver.final_at() - muted <= 0.3 + 0.04
        assert "AskFlush" in driver.asked

    def test_no_stall_while_the_audio_is_early(self) -> None:
        # A file pushed at once: it would have been played for seconds.
        driver = Driver()
        driver.noise(4.0, live=False)
        driver.wait(4.2)
        assert driver.asked == []
        driver.wait(0.2)
        assert driver.asked == ["AskFlush"]

    def test_the_silence_is_as_much_as_the_delay_asks_for(self) -> None:
        driver = Driver()
        driver.noise(0.8)
        driver.wait(1.0)
        # The delay's six frames, and three.
        assert driver.fed_silence_s() == pytest.approx(0.72)

    def test_a_backend_that_flushes_itself_gets_none(self) -> None:
        driver = Driver(capabilities=evolve(KYUTAI, self_flushing=True))
        driver.say("ba", word_s=0.4, gap_s=0.0)
        driver.wait(1.0)
        assert driver.fed_silence_s() == 0
        assert driver.text == "ba"

    def test_a_flush_is_asked_for_and_told(self) -> None:
        driver = Driver()
        driver.say("ba", gap_s=0.0)
        mark = driver.machine.request_flush()
        driver.wait(0.05)
        assert set(driver.fulfilled) == {mark}
        assert driver.text == "ba"

    def test_another_one_after_it_needs_no_question(self) -> None:
        driver = Driver()
        driver.say("ba")
        for _ in range(3):
            driver.machine.request_flush()
        driver.wait(0.1)
        assert set(driver.fulfilled) == {1, 2, 3}
        assert driver.asked == ["AskFlush"]

    def test_one_that_comes_meanwhile_waits_for_the_same_answer(self) -> None:
        driver = Driver()
        driver.say("ba")
        driver.frozen = True
        first = driver.machine.request_flush()
        driver.wait(0.2)
        second = driver.machine.request_flush()
        driver.wait(0.2)
        assert driver.fulfilled == {}
        driver.frozen = False
        driver.wait(0.1)
        assert set(driver.fulfilled) == {first, second}
        assert driver.asked == ["AskFlush"]

    def test_it_covers_what_was_pushed_before_and_nothing_after(self) -> None:
        driver = Driver(reads=False)
        driver.say("ba", live=False)
        mark = driver.machine.request_flush()
        driver.say("be", live=False)
        driver.reads = True
        driver.wait(0.05)
        assert mark in driver.fulfilled
        assert driver.text.split()[0] == "ba"
        driver.wait(2.0)
        driver.end()
        driver.require_whole()

    def test_it_survives_a_loss(self) -> None:
        driver = Driver()
        driver.say("ba")
        driver.frozen = True
        mark = driver.machine.request_flush()
        driver.wait(0.2)
        driver.lose()
        driver.frozen = False
        assert driver.fulfilled == {}
        driver.wait(2.0)
        assert set(driver.fulfilled) == {mark}
        assert driver.text == "ba"

    def test_without_a_connection_it_waits(self) -> None:
        driver = Driver(up=False)
        driver.say("ba")
        driver.machine.request_flush()
        driver.wait(1.0)
        assert driver.fulfilled == {}

    def test_but_where_nothing_was_pushed_it_is_done_at_once(self) -> None:
        driver = Driver(up=False)
        mark = driver.machine.request_flush()
        driver.wait(0.1)
        assert set(driver.fulfilled) == {mark}


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
        assert driver.states == ["connecting", "reconnecting"]
        assert len(driver.attempts) > 4

    def test_why_is_told_in_words(self) -> None:
        driver = Driver(up=False, error=CapacityError("full"))
        driver.wait(0.1)
        (_, change) = driver.events
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
        assert isinstance(driver.events[-1], StateChanged)
        assert driver.events[-1].detail == "down (trying every 30 s)"

    def test_a_connection_after_that_is_as_good(self) -> None:
        driver = Driver(up=False)
        driver.wait(150.0)
        driver.up = True
        driver.wait(30.0)
        driver.say("ba be")
        driver.wait(1.0)
        assert driver.text == "ba be"
        assert driver.states[-1] == "ready"

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


class TestDraining:
    def test_a_pause_is_taken_to_leave(self) -> None:
        driver = Driver()
        driver.say("ba be", gap_s=0.2)
        driver.receive(Draining(deadline_s=10.0))
        told = driver.now
        driver.say("bi", gap_s=2.0)
        driver.say("bo")
        driver.end()
        driver.require_whole()
        assert driver.left[0] is Leaving.DRAINING
        assert driver.attempts[1] - told < 2.0
        assert driver.states[1:4] == ["ready", "draining", "reconnecting"]
        assert driver.gaps == []

    def test_without_a_pause_it_leaves_before_the_deadline(self) -> None:
        driver = Driver()
        driver.wait(0.02)
        driver.receive(Draining(deadline_s=5.0))
        told = driver.now
        driver.noise(8.0)
        assert driver.left == [Leaving.DRAINING]
        assert driver.attempts[1] - told == pytest.approx(4.0, abs=0.05)

    def test_a_short_deadline_leaves_some_time(self) -> None:
        driver = Driver()
        driver.wait(0.02)
        driver.receive(Draining(deadline_s=1.0))
        told = driver.now
        driver.noise(2.0)
        assert driver.attempts[1] - told == pytest.approx(0.5, abs=0.05)

    def test_a_server_that_goes_sooner_is_replaced_at_once(self) -> None:
        driver = Driver()
        driver.up = False
        for _ in range(3):
            driver.wait(2.0)
        driver.up = True
        driver.wait(8.0)
        driver.receive(Draining(deadline_s=5.0))
        driver.lose()
        lost = driver.now
        driver.wait(1.0)
        assert driver.attempts[-1] - lost <= 0.4


class TestIdle:
    def test_the_place_is_given_back_and_taken_again(self) -> None:
        driver = Driver()
        driver.say("ba be")
        silent = driver.now
        driver.quiet(70.0)
        assert driver.states == ["connecting", "ready", "idle"]
        idle_at = driver.times[-1]
        assert idle_at - silent == pytest.approx(60.0 - 0.2, abs=0.1)
        driver.say("bi bo")
        driver.wait(1.0)
        driver.end()
        driver.require_whole()
        assert driver.states[3:] == ["reconnecting", "ready", "closed"]
        assert len(driver.connections) == 2

    def test_the_quiet_before_the_first_sound_is_sent_along(self) -> None:
        driver = Driver()
        driver.quiet(65.0)
        before = driver.pushed
        driver.say("ba")
        driver.wait(1.0)
        pre_roll = (before - first_position(driver, 1)) / SAMPLE_RATE
        assert pre_roll == pytest.approx(1.0, abs=0.1)

    def test_muted_counts_as_silent(self) -> None:
        driver = Driver()
        driver.say("ba")
        driver.wait(61.0)
        assert driver.states[-1] == "idle"
        assert driver.machine.connect_due(driver.now) == math.inf

    def test_quiet_is_neither_kept_nor_lost(self) -> None:
        driver = Driver()
        driver.quiet(200.0)
        assert driver.machine._feeder.ring.held <= 1.2 * SAMPLE_RATE
        driver.end()
        assert driver.gaps == []
        assert driver.machine.metrics(driver.now).skipped_quiet_s > 130

    def test_a_flush_meanwhile_needs_no_connection(self) -> None:
        driver = Driver()
        driver.quiet(65.0)
        mark = driver.machine.request_flush()
        driver.wait(0.1)
        assert mark in driver.fulfilled
        assert len(driver.attempts) == 1

    def test_an_end_meanwhile_needs_none_either(self) -> None:
        driver = Driver()
        driver.quiet(65.0)
        driver.end()
        assert len(driver.attempts) == 1
        assert driver.gaps == []

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


class TestKeepalive:
    def test_while_muted(self) -> None:
        driver = Driver(
            capabilities=evolve(KYUTAI, keepalive_interval_s=5.0),
            options=SessionOptions(idle_release_s=None),
        )
        driver.say("ba")
        driver.wait(26.0)
        assert driver.asked.count("AskKeepalive") == 5

    def test_not_while_audio_flows(self) -> None:
        driver = Driver(capabilities=evolve(KYUTAI, keepalive_interval_s=1.0))
        driver.say("ba be bi bo bu ba be bi")
        assert "AskKeepalive" not in driver.asked


class TestHalfOpen:
    def test_without_acknowledgements_the_connection_is_replaced(self) -> None:
        driver = Driver()
        driver.say("ba be")
        driver.frozen = True
        driver.say("bi bo", gap_s=3.0)
        driver.frozen = False
        driver.wait(2.0)
        driver.end()
        driver.require_whole()
        assert driver.failures == ["the recogniser acknowledged nothing for 5 s"]

    def test_a_reader_who_was_slow_is_an_excuse(self) -> None:
        driver = Driver()
        driver.frozen = True
        driver.noise(4.0)
        driver.machine.excuse(driver.now)
        driver.wait(4.0)
        assert driver.failures == []
        driver.wait(2.0)
        assert len(driver.failures) == 1

    def test_a_flush_without_answer(self) -> None:
        driver = Driver(capabilities=NO_ACKS)
        driver.say("ba")
        driver.frozen = True
        driver.machine.request_flush()
        driver.wait(9.9)
        assert driver.failures == []
        driver.wait(0.5)
        assert driver.failures == ["the recogniser did not confirm a flush"]

    def test_only_so_many_frames_are_under_way(self) -> None:
        driver = Driver()
        driver.wait(0.02)
        driver.frozen = True
        driver.noise(4.0)
        assert len(driver.sent) == 16
        metrics = driver.machine.metrics(driver.now)
        assert metrics.server_lag_s == pytest.approx(16 * FRAME_S)
        assert metrics.waiting_s == pytest.approx(4.0 - 16 * FRAME_S, abs=0.16)


class TestDeaf:
    RULES = DeafRules(speech_s=4.0, force_s=8.0)

    def driver(self, **changes: object) -> Driver:
        capabilities = evolve(KYUTAI, **changes)  # type: ignore[arg-type]
        options = SessionOptions(deaf=self.RULES)
        return Driver(capabilities=capabilities, options=options)

    def test_a_pause_is_taken_for_a_reset(self) -> None:
        driver = self.driver()
        driver.say("ba be")
        driver.connections[0].deaf = True
        driver.say("bi bo bu da de di do du fa fe fi fo fu ga", gap_s=0.15)
        driver.quiet(2.0)
        driver.wait(2.0)
        driver.end()
        driver.require_whole()
        assert "AskReset" in driver.asked
        assert len(driver.connections) == 1
        assert driver.machine.metrics(driver.now).deaf_restarts == 1

    def test_a_backend_that_cannot_is_connected_anew(self) -> None:
        driver = self.driver(resettable=False)
        driver.say("ba be")
        driver.connections[0].deaf = True
        driver.say("bi bo bu da de di do du fa fe fi fo fu ga", gap_s=0.15)
        driver.quiet(2.0)
        driver.wait(2.0)
        driver.end()
        driver.require_whole()
        assert driver.left[0] is Leaving.RESTART

    def test_in_the_end_no_pause_is_waited_for(self) -> None:
        driver = self.driver()
        driver.wait(0.02)
        driver.connections[0].deaf = True
        driver.noise(7.9)
        assert driver.left == []
        driver.noise(0.3)
        # In mid-speech a reset makes models mute: a new connection is better.
        assert driver.left == [Leaving.RESTART]

    def test_music_is_left_alone_more_and_more(self) -> None:
        driver = self.driver()
        driver.noise(60.0)
        assert 3 <= driver.machine.metrics(driver.now).deaf_restarts <= 4
        # A vain restart replays once what it was for, not again and again.
        assert driver.sent_again_s() < 12 + 4 * 4

    def test_notices_are_no_words(self) -> None:
        driver = self.driver(transcribes=False)
        driver.noise(30.0)
        assert driver.left == []


class TestLanguage:
    FRENCH = "le chat est dans la maison et nous avons une voiture pour les vacances"

    def test_it_is_reported_and_no_more(self) -> None:
        driver = Driver(language="en")
        driver.say(self.FRENCH)
        driver.wait(1.0)
        (told,) = [e for e in driver.events if isinstance(e, LanguageMismatch)]
        assert (told.expected, told.detected) == ("en", "fr")
        assert 0 < told.at < driver.next_media
        assert driver.asked == ["AskFlush"]

    def test_a_reset_at_the_next_pause_is_an_option(self) -> None:
        options = SessionOptions(language_policy="reset")
        driver = Driver(language="en", options=options)
        driver.say(self.FRENCH, gap_s=0.1)
        assert "AskReset" not in driver.asked
        driver.say("the house is in the forest", gap_s=1.0)
        driver.end()
        assert driver.asked.count("AskReset") == 1
        assert driver.text == driver.said
        assert driver.machine.metrics(driver.now).language_resets == 1

    def test_a_session_without_language_has_none_to_miss(self) -> None:
        driver = Driver()
        driver.say(self.FRENCH)
        driver.wait(1.0)
        assert not [e for e in driver.events if isinstance(e, LanguageMismatch)]


class TestLeadIn:
    def test_silence_comes_first_where_it_is_needed(self) -> None:
        driver = Driver(capabilities=evolve(KYUTAI, silence_prefix_s=1.0))
        driver.say("ba be")
        driver.lose()
        driver.wait(1.0)
        driver.end()
        driver.require_whole()
        for connection in driver.connections:
            assert not np.concatenate(connection.frames[:13]).any()

    def test_priming_words_are_never_shown(self) -> None:
        prime = np.full(3000, LOUD, dtype=np.float32)
        driver = Driver(options=SessionOptions(prime_audio=prime))
        driver.wait(0.1)
        driver.receive(Word(index=0, text="primed", start=0.08))
        driver.receive(WordEnd(index=0, end=0.12))
        driver.jump(7.0)
        driver.say("ba")
        driver.wait(1.0)
        assert driver.text == "ba"
        (final,) = driver.finals
        assert final.start == pytest.approx(7.0, abs=1e-6)
        assert driver.connections[0].frames[0][0] == np.float32(LOUD)

    def test_a_word_dated_a_step_early_is_not_taken_for_priming(self) -> None:
        prime = np.full(3000, LOUD, dtype=np.float32)
        driver = Driver(options=SessionOptions(prime_audio=prime))
        driver.noise(1.0)
        begin = 4 * FRAME_S + 9 * FRAME_S - FRAME_S
        driver.receive(Word(index=0, text="early", start=begin))
        assert driver.text == "early"


class TestTooMuch:
    def test_lateness(self) -> None:
        driver = Driver(options=SessionOptions(max_lateness_s=2.0))
        driver.say("ba", gap_s=1.0)
        driver.up = False
        driver.lose()
        driver.say("be bi bo bu da de di do du fa fe fi", word_s=0.4, gap_s=0.3)
        driver.up = True
        driver.say("fo fu")
        driver.wait(2.0)
        driver.end()
        (gap,) = driver.gaps
        assert gap.reason == "too late"
        shown = driver.text.split()
        assert shown[0] == "ba" and shown[-2:] == ["fo", "fu"]
        lost = [word for word in driver.words if word.text not in shown]
        assert gap.start <= lost[0].media + 0.1
        assert lost[0].media - gap.start <= 0.48 + 0.08
        assert gap.end >= lost[-1].media + 0.3
        assert driver.usage.gap_s == pytest.approx(gap.end - gap.start)

    def test_overflow(self) -> None:
        options = SessionOptions(replay_s=4.0, cold_start_s=4.0)
        driver = Driver(options=options)
        driver.say("ba be", gap_s=0.4)
        driver.quiet(1.0)
        driver.up = False
        driver.lose()
        driver.say(" ".join(f"{a}{b}" for a in "dfgklm" for b in "aeiou"), gap_s=0.4)
        driver.up = True
        driver.wait(8.0)
        driver.end()
        (gap,) = driver.gaps
        assert gap.reason == "overflow"
        shown = driver.text.split()
        lost = [word for word in driver.words if word.text not in shown]
        first, last = lost[0].media, lost[-1].media + 0.3
        # Right within a frame on the side of words that are there, and no word
        # that is lost lies outside.
        assert first - 1.5 <= gap.start <= first + 0.08
        assert last - 0.08 <= gap.end <= last + 0.4 + 0.08
        assert shown == [word.text for word in driver.words if word not in lost]
        overflow = driver.machine.metrics(driver.now).overflow_s
        assert overflow <= driver.usage.gap_s + 1e-6

    def test_pushing_with_patience_loses_nothing(self) -> None:
        driver = Driver(up=False, try_push=False)
        assert driver.machine.has_room(10_000.0)
        driver.noise(29.5)
        assert driver.machine.has_room(0.5)
        assert not driver.machine.has_room(0.6)

    def test_room_is_told(self) -> None:
        options = SessionOptions(replay_s=2.0, cold_start_s=2.0)
        driver = Driver(up=False, try_push=False, options=options)
        driver.noise(7.0)
        assert driver.machine.make_room(0.9)
        assert not driver.machine.make_room(1.5)
        assert driver.machine.make_room(0.9)


class TestEnd:
    def test_all_words_come_first(self) -> None:
        driver = Driver()
        driver.say("ba be", gap_s=0.0)
        driver.end()
        driver.require_whole()
        assert driver.left == [Leaving.FINISHED]
        assert driver.states[-1] == "closed"

    def test_with_nothing_said_no_connection_is_waited_for(self) -> None:
        driver = Driver(starts_in_s=1e6)
        driver.machine.end_input(driver.now)
        assert driver.machine.connect_due(driver.now) is None

    def test_a_recogniser_that_does_not_get_on_is_left(self) -> None:
        driver = Driver(options=SessionOptions(progress_timeout_s=1e6))
        driver.say("ba be")
        driver.frozen = True
        driver.say("bi")
        driver.machine.end_input(driver.now)
        ended = driver.now
        while not driver.over and driver.now < ended + 100:
            driver.wait(0.1)
        driver.close()
        assert driver.now - ended == pytest.approx(30.0, abs=0.2)
        assert driver.failures == ["the last words did not come in time"]
        assert driver.gaps[-1].reason == "not transcribed"
        assert not (driver.sounding & ~driver.was_sent() & ~driver.in_gaps()).any()

    def test_before_the_first_connection_there_is_more_time(self) -> None:
        driver = Driver(up=False)
        driver.say("ba")
        driver.machine.end_input(driver.now)
        ended = driver.now
        assert driver.machine.end_due == pytest.approx(ended + 120.0)
        while not driver.over and driver.now < ended + 200:
            driver.wait(0.1)
        assert driver.now - ended == pytest.approx(120.0, abs=0.2)
        driver.close()
        (gap,) = driver.gaps
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
        driver.machine.end_input(driver.now)
        driver.wait(0.05)
        driver.machine.end_input(driver.now)
        driver.end()
        assert driver.asked.count("AskFlush") == 1


class TestVoice:
    """A backend that finds the ends of utterances itself."""

    def ready(self) -> SessionMachine:
        machine = SessionMachine("test", SessionOptions(), None, 0.0)
        machine.connecting()
        machine.receive(Ready(capabilities=OWN_ENDPOINTS), 0.0)
        machine.admit(np.full(96_000, 0.1, dtype=np.float32), 10.0, 0.0, 0.0)
        while isinstance(machine.next_action(0.0), Send):
            machine.sent(0.0)
            frames = machine.metrics(0.0).server_lag_s / FRAME_S
            machine.receive(
                Progress(frames_processed=round(frames) + 10_000, lag_frames=0), 0.0
            )
        machine.events()
        return machine

    def test_it_frames_the_words(self) -> None:
        machine = self.ready()
        machine.receive(Voice(active=True, at=1.0), 0.0)
        machine.receive(Word(index=0, text="hello.", start=1.0), 0.0)
        machine.receive(WordEnd(index=0, end=1.5), 0.0)
        # Silence is the backend's business.
        machine.receive(Progress(frames_processed=50, lag_frames=0), 9.0)
        started, partial = machine.events()
        assert isinstance(started, SpeechStarted) and isinstance(partial, Partial)
        machine.receive(Voice(active=False, at=1.6), 9.0)
        endpoint, final = machine.events()
        assert isinstance(endpoint, Endpoint) and isinstance(final, Final)
        assert endpoint.at == pytest.approx(11.6)
        assert final.reason is FinalReason.ENDPOINT
        assert final.end == pytest.approx(11.5)

    def test_voice_without_words_is_still_speech(self) -> None:
        machine = self.ready()
        machine.receive(Voice(active=True, at=0.5), 0.0)
        machine.receive(Voice(active=True, at=0.6), 0.0)
        machine.receive(Voice(active=False, at=1.0), 0.0)
        machine.receive(Voice(active=False, at=1.2), 0.0)
        assert machine.events() == [SpeechStarted(at=10.5), Endpoint(at=11.0)]


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
    assert driver.usage.audio_processed_s < driver.usage.audio_sent_s


def test_pauses_are_read() -> None:
    driver = Driver()
    driver.say("ba")
    driver.quiet(0.6)
    for _ in range(11):
        driver.receive(Pause(probabilities=(0.1, 0.1), horizons_s=(0.5, 2.0)))
    assert not driver.finals
    for _ in range(4):
        driver.receive(Pause(probabilities=(0.2, 0.9), horizons_s=(0.5, 2.0)))
    (final,) = driver.finals
    assert final.reason is FinalReason.ENDPOINT
    (endpoint,) = [e for e in driver.events if isinstance(e, Endpoint)]
    assert endpoint.probability is not None and endpoint.probability > 0.6


def test_an_unknown_flush_is_no_news() -> None:
    driver = Driver()
    driver.say("ba")
    driver.receive(Flushed(token=77))
    assert driver.fulfilled == {}


def test_the_resamplers_lag_is_taken_off_the_media_time() -> None:
    machine = SessionMachine("test", SessionOptions())
    machine.admit(np.full(2400, 0.1, dtype=np.float32), 5.0, 0.001, 0.0)
    machine.end(1.0)
    gap = machine.events()[0]
    assert getattr(gap, "start", None) == pytest.approx(4.999)


def test_a_jump_of_the_callers_clock_is_a_pause() -> None:
    driver = Driver()
    driver.say("ba", gap_s=0.0)
    driver.jump(20.0)
    driver.say("be", gap_s=0.0)
    driver.wait(1.0)
    driver.end()
    driver.require_whole()
    # A second of silence stands for it, and the flush's at the end.
    assert driver.fed_silence_s() == pytest.approx(1.0 + 0.72, abs=0.08)


class TestFigures:
    def test_usage_adds_up(self) -> None:
        driver = Driver()
        driver.say("ba be bi")
        driver.lose()
        driver.wait(0.5)
        driver.say("bo")
        driver.end()
        usage = driver.usage
        assert usage.audio_pushed_s == pytest.approx(2.0)
        assert usage.audio_sent_s == pytest.approx(driver.frames_sent_s())
        assert usage.audio_processed_s == pytest.approx(usage.audio_sent_s)
        assert usage.replayed_s == pytest.approx(driver.sent_again_s(), abs=0.1)
        assert usage.silence_s == pytest.approx(driver.fed_silence_s())
        assert (usage.words, usage.connections, usage.gap_s) == (4, 2, 0.0)
        assert usage.connected_s == pytest.approx(2.5 - 0.38, abs=0.1)

    def test_metrics_say_what_happened(self) -> None:
        driver = Driver(up=False, error=CapacityError("full"))
        driver.wait(0.1)
        driver.up = True
        driver.say("ba be bi")
        driver.lose()
        driver.wait(1.0)
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
        driver.wait(1.0)
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
