"""What is sent besides the speaker: flushes, silence, priming."""

from __future__ import annotations

import numpy as np
import pytest
from attrs import evolve

from kyutai_stream import (
    FinalReason,
    SessionOptions,
)
from kyutai_stream.backend import (
    Word,
    WordEnd,
)
from kyutai_stream.core import FRAME_S
from kyutai_stream.session._actions import AskFlush

from .driver import KYUTAI, Driver
from .recogniser import LOUD, positions


class TestFlush:
    def test_a_stall_brings_out_the_last_word(self) -> None:
        driver = Driver()
        driver.say("ba be", gap_s=0.2)
        muted = driver.now
        driver.wait(1.0)
        (final,) = driver.shown.finals
        assert (final.text, final.reason) == ("ba be", FinalReason.FLUSH)
        assert driver.shown.final_at() - muted <= 0.3 + 0.04
        assert "AskFlush" in driver.asked

    @pytest.mark.parametrize(
        ("gap_s", "stall_s", "cut"),
        [(0.1, 1.2, False), (0.1, 1.7, True), (0.2, 0.25, False), (0.2, 0.5, True)],
    )
    def test_no_short_stall_cuts_a_word(
        self, gap_s: float, stall_s: float, cut: bool
    ) -> None:
        # Fed in the middle of a word, the silence of a flush would break it.
        driver = Driver()
        driver.say("ba", gap_s=gap_s)
        driver.wait(stall_s)
        assert (driver.audio.fed_silence_s() > 0) is cut

    def test_no_stall_while_the_audio_is_early(self) -> None:
        # A file pushed at once: it would have been played for seconds.
        driver = Driver()
        driver.noise(4.0, live=False)
        driver.wait(5.4)
        assert driver.asked == []
        driver.wait(0.2)
        assert driver.asked == ["AskFlush"]

    def test_the_silence_is_as_much_as_the_delay_asks_for(self) -> None:
        driver = Driver()
        driver.noise(0.8)
        driver.wait(1.7)
        # The delay's six frames, and three.
        assert driver.audio.fed_silence_s() == pytest.approx(0.72)

    def test_a_backend_that_flushes_itself_gets_none(self) -> None:
        driver = Driver(capabilities=evolve(KYUTAI, self_flushing=True))
        driver.say("ba", word_s=0.4, gap_s=0.0)
        driver.wait(1.7)
        assert driver.audio.fed_silence_s() == 0
        assert driver.shown.text == "ba"

    def test_a_flush_is_asked_for_and_told(self) -> None:
        driver = Driver()
        driver.say("ba", gap_s=0.0)
        mark = driver.machine.intake.request_flush()
        driver.wait(0.05)
        assert set(driver.fulfilled) == {mark}
        assert driver.shown.text == "ba"

    def test_another_one_after_it_needs_no_question(self) -> None:
        driver = Driver()
        driver.say("ba")
        for _ in range(3):
            driver.machine.intake.request_flush()
        driver.wait(0.1)
        assert set(driver.fulfilled) == {1, 2, 3}
        assert driver.asked == ["AskFlush"]

    def test_one_that_comes_meanwhile_waits_for_the_same_answer(self) -> None:
        driver = Driver()
        driver.say("ba")
        driver.frozen = True
        first = driver.machine.intake.request_flush()
        driver.wait(0.2)
        second = driver.machine.intake.request_flush()
        driver.wait(0.2)
        assert driver.fulfilled == {}
        driver.frozen = False
        driver.wait(0.1)
        assert set(driver.fulfilled) == {first, second}
        assert driver.asked == ["AskFlush"]

    def test_it_covers_what_was_pushed_before_and_nothing_after(self) -> None:
        driver = Driver(reads=False)
        driver.say("ba", live=False)
        mark = driver.machine.intake.request_flush()
        driver.say("be", live=False)
        driver.reads = True
        driver.wait(0.05)
        assert mark in driver.fulfilled
        assert driver.shown.text.split()[0] == "ba"
        driver.wait(2.0)
        driver.end()
        driver.require_whole()

    def test_quiet_that_is_skipped_ends_at_the_mark(self) -> None:
        driver = Driver(reads=False, options=SessionOptions(send_window=64))
        driver.say("ba", gap_s=2.0, live=False)
        driver.machine.intake.request_flush()
        end = driver.pushed
        driver.quiet(3.0, live=False)
        driver.say("be", live=False)
        driver.reads = True
        driver.frozen = True
        driver.wait(0.05)
        sent = driver.connections[0].waiting
        place = next(i for i, one in enumerate(sent) if isinstance(one, AskFlush))
        before = [one for one in sent[:place] if isinstance(one, np.ndarray)]
        assert max(int(positions(frame).max()) for frame in before) < end
        driver.frozen = False
        driver.wait(2.0)
        driver.end()
        driver.require_whole()

    def test_it_survives_a_loss(self) -> None:
        driver = Driver()
        driver.say("ba")
        driver.frozen = True
        mark = driver.machine.intake.request_flush()
        driver.wait(0.2)
        driver.lose()
        driver.frozen = False
        assert driver.fulfilled == {}
        driver.wait(2.0)
        assert set(driver.fulfilled) == {mark}
        assert driver.shown.text == "ba"

    def test_after_a_loss_it_is_asked_for_while_audio_flows(self) -> None:
        driver = Driver()
        driver.say("ba")
        driver.frozen = True
        mark = driver.machine.intake.request_flush()
        driver.wait(0.1)
        driver.lose()
        driver.frozen = False
        driver.say("be bi bo bu")
        assert mark in driver.fulfilled

    def test_without_a_connection_it_waits(self) -> None:
        driver = Driver(up=False)
        driver.say("ba")
        driver.machine.intake.request_flush()
        driver.wait(1.0)
        assert driver.fulfilled == {}

    def test_but_where_nothing_was_pushed_it_is_done_at_once(self) -> None:
        driver = Driver(up=False)
        mark = driver.machine.intake.request_flush()
        driver.wait(0.1)
        assert set(driver.fulfilled) == {mark}


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
        assert driver.shown.text == "ba"
        (final,) = driver.shown.finals
        assert final.start == pytest.approx(7.0, abs=1e-6)
        assert driver.connections[0].frames[0][0] == np.float32(LOUD)

    def test_a_word_dated_a_step_early_is_not_taken_for_priming(self) -> None:
        prime = np.full(3000, LOUD, dtype=np.float32)
        driver = Driver(options=SessionOptions(prime_audio=prime))
        driver.noise(1.0)
        begin = 4 * FRAME_S + 9 * FRAME_S - FRAME_S
        driver.receive(Word(index=0, text="early", start=begin))
        assert driver.shown.text == "early"


def test_a_jump_of_the_callers_clock_is_a_pause() -> None:
    driver = Driver()
    driver.say("ba", gap_s=0.0)
    driver.jump(20.0)
    driver.say("be", gap_s=0.0)
    driver.wait(1.0)
    driver.end()
    driver.require_whole()
    # A second of silence stands for it, and the flush's at the end.
    assert driver.audio.fed_silence_s() == pytest.approx(1.0 + 0.72, abs=0.08)
