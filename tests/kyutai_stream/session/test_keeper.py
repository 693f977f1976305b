"""Which audio is kept, sent again, or given up with a gap."""

from __future__ import annotations

import pytest
from attrs import evolve

from kyutai_stream import (
    Capabilities,
    FinalReason,
    SessionOptions,
)
from kyutai_stream.backend import (
    Voice,
    Word,
)
from kyutai_stream.core import FRAME_S, SAMPLE_RATE

from .driver import KYUTAI, Driver

OWN_ENDPOINTS = Capabilities(acks=True, endpointing=True)
NO_ACKS = Capabilities(acks=False, nominal_delay_s=0.48)


class TestReplay:
    def test_a_cut_loses_and_doubles_nothing(self) -> None:
        driver = Driver()
        driver.say("ba be bi bo bu")
        driver.lose()
        driver.say("da de di")
        driver.end()
        driver.require_whole()
        assert driver.shown.states == [
            *["connecting", "ready", "reconnecting", "ready", "closed"]
        ]
        reasons = [final.reason for final in driver.shown.finals]
        assert reasons == [FinalReason.DISCONNECT, FinalReason.FLUSH]

    def test_it_begins_in_the_quiet_before_the_last_word(self) -> None:
        driver = Driver()
        driver.say("ba be bi bo", word_s=0.4, gap_s=0.3)
        driver.lose()
        driver.wait(1.0)
        # "bi" came out last: from a second before its end on, in a pause.
        begin = driver.words[2].media + 0.4 - 1.0
        first = driver.first_sent(1)
        assert begin - 0.4 <= first / SAMPLE_RATE <= begin
        assert not driver.audio.sounding[first]

    def test_no_more_than_needed_is_sent_again(self) -> None:
        driver = Driver()
        driver.say("ba be bi bo bu " * 8)
        driver.lose()
        driver.wait(2.0)
        assert driver.audio.sent_again_s() <= 1.5 + 0.48 + 1.0

    def test_frames_begin_anew_on_each_connection(self) -> None:
        driver = Driver()
        driver.noise(0.1)
        driver.lose()
        driver.noise(0.1)
        driver.end()
        assert driver.first_sent(1) == 0
        assert driver.audio.was_sent().all()

    def test_a_connection_that_never_was_ready_loses_nothing(self) -> None:
        driver = Driver(up=False)
        driver.say("ba be")
        driver.up = True
        driver.wait(3.0)
        driver.end()
        driver.require_whole()
        assert driver.shown.usage.replayed_s == 0

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
        times = [at for at, _ in driver.audio.sent]
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
        assert driver.audio.frames_sent_s() < 6
        # No silence stands for it, and the surroundings of sounds are kept.
        assert driver.audio.fed_silence_s() < 0.72 + 0.08
        sent = driver.audio.was_sent()
        begin = driver.words[1].begin
        assert sent[begin - 6000 : begin].all()
        assert sent[: driver.words[0].end + 6000].all()

    def test_without_acknowledgements_ten_seconds_are_sent_again(self) -> None:
        driver = Driver(capabilities=NO_ACKS, options=SessionOptions(deaf=None))
        driver.noise(20.0)
        driver.lose()
        driver.wait(1.0)
        assert driver.first_sent(1) / SAMPLE_RATE == pytest.approx(10.0, abs=0.5)

    def test_of_an_utterance_that_has_not_ended_all_is_sent_again(self) -> None:
        driver = Driver(capabilities=OWN_ENDPOINTS)
        driver.quiet(2.0)
        driver.receive(Voice(active=True, at=2.0))
        driver.noise(6.0)
        driver.receive(Word(index=0, text="early", start=2.1))
        driver.lose()
        driver.wait(1.0)
        assert driver.first_sent(1) / SAMPLE_RATE == pytest.approx(1.0, abs=0.45)

    def test_memory_ends_with_the_audio_kept(self) -> None:
        driver = Driver()
        for _ in range(20):
            driver.say("ba be bi bo bu")
            held = driver.machine._feeder.ring.held
            assert held <= 5 * SAMPLE_RATE


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
        (gap,) = driver.shown.gaps
        assert gap.reason == "too late"
        shown = driver.shown.text.split()
        assert shown[0] == "ba" and shown[-2:] == ["fo", "fu"]
        lost = [word for word in driver.words if word.text not in shown]
        assert gap.start <= lost[0].media + 0.1
        assert lost[0].media - gap.start <= 0.48 + 0.08
        assert gap.end >= lost[-1].media + 0.3
        assert driver.shown.usage.gap_s == pytest.approx(gap.end - gap.start)

    def test_overflow(self) -> None:
        options = SessionOptions(replay_s=5.0, cold_start_s=5.0)
        driver = Driver(options=options)
        driver.say("ba be", gap_s=0.4)
        driver.quiet(1.0)
        driver.up = False
        driver.lose()
        driver.say(" ".join(f"{a}{b}" for a in "dfgklm" for b in "aeiou"), gap_s=0.4)
        driver.up = True
        driver.wait(8.0)
        driver.end()
        (gap,) = driver.shown.gaps
        assert gap.reason == "overflow"
        shown = driver.shown.text.split()
        lost = [word for word in driver.words if word.text not in shown]
        first, last = lost[0].media, lost[-1].media + 0.3
        # Right within a frame on the side of words that are there, and no word
        # that is lost lies outside.
        assert first - 1.5 <= gap.start <= first + 0.08
        assert last - 0.08 <= gap.end <= last + 0.4 + 0.08
        assert shown == [word.text for word in driver.words if word not in lost]
        overflow = driver.machine.metrics(driver.now).overflow_s
        assert overflow <= driver.shown.usage.gap_s + 1e-6

    def test_an_utterance_longer_than_the_memory(self) -> None:
        # A backend with its own endpoints may say all of it only at its end.
        options = SessionOptions(deaf=None)
        driver = Driver(capabilities=OWN_ENDPOINTS, options=options)
        driver.wait(0.1)
        driver.receive(Voice(active=True, at=0.0))
        driver.noise(45.0)
        driver.lose()
        driver.wait(1.0)
        driver.end()
        (gap,) = driver.shown.gaps
        assert gap.start == 0.0
        assert gap.end == pytest.approx(driver.first_sent(1) / SAMPLE_RATE, abs=0.001)
        assert gap.end == pytest.approx(15.0, abs=0.1)

    @pytest.mark.parametrize("word_s", [0.3, 0.6])
    def test_a_gap_begins_with_the_word_that_was_cut(self, word_s: float) -> None:
        driver = self.overflowing()
        driver.quiet(1.0)
        # Heard to its middle, less the delay.
        driver.say("ba", word_s=word_s, gap_s=0.48 - word_s / 2)
        self.overflow(driver)
        (gap,) = driver.shown.gaps
        assert gap.start == pytest.approx(1.0, abs=0.021)

    def test_or_behind_the_word_that_came_out(self) -> None:
        driver = self.overflowing()
        driver.quiet(1.0)
        driver.noise(0.4)
        driver.receive(Word(index=0, text="soon", start=1.0))
        driver.quiet(0.1)
        self.overflow(driver)
        (gap,) = driver.shown.gaps
        assert gap.start == pytest.approx(1.4, abs=0.021)

    def test_or_where_a_flush_brought_all_out(self) -> None:
        driver = self.overflowing()
        driver.capabilities = evolve(KYUTAI, self_flushing=True)
        driver.say("ba", gap_s=0.0)
        driver.machine.intake.request_flush()
        driver.wait(0.1)
        self.overflow(driver)
        (gap,) = driver.shown.gaps
        assert gap.start == pytest.approx(0.3, abs=0.001)

    def overflowing(self) -> Driver:
        return Driver(options=SessionOptions(replay_s=5.0, cold_start_s=5.0))

    def overflow(self, driver: Driver) -> None:
        driver.up = False
        driver.lose()
        driver.say("da de di do du " * 6)
        driver.up = True
        driver.wait(5.0)
        driver.end()
