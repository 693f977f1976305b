"""What a connection owes, and by when."""

from __future__ import annotations

from attrs import evolve

from kyutai_stream import (
    Capabilities,
    DeafRules,
    SessionOptions,
)
from kyutai_stream.backend import (
    Flushed,
    Progress,
)
from kyutai_stream.core import SAMPLE_RATE

from .driver import Driver

NO_ACKS = Capabilities(acks=False, nominal_delay_s=0.48)


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

    def test_one_that_is_slow_is_not(self) -> None:
        driver = Driver()
        driver.wait(0.02)
        driver.frozen = True
        driver.noise(1.5)
        for frames in (1, 2, 3):
            driver.wait(3.0)
            driver.receive(Progress(frames_processed=frames, lag_frames=13))
        assert driver.failures == []
        driver.wait(5.1)
        assert len(driver.failures) == 1

    def test_the_time_without_audio_does_not_count(self) -> None:
        driver = Driver()
        driver.say("ba")
        driver.wait(20.0)
        driver.frozen = True
        driver.noise(4.5)
        assert driver.failures == []
        driver.noise(1.0)
        assert len(driver.failures) == 1

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
        driver.machine.intake.request_flush()
        driver.wait(9.9)
        assert driver.failures == []
        driver.wait(0.5)
        assert driver.failures == ["the recogniser did not confirm a flush"]


def test_an_unknown_flush_is_no_news() -> None:
    driver = Driver()
    driver.say("ba")
    driver.receive(Flushed(token=77))
    assert driver.fulfilled == {}


class TestResets:
    """Nothing is sent until a reset is confirmed."""

    RULES = DeafRules(speech_s=2.0, force_s=60.0)

    def test_without_confirmation_the_connection_is_replaced(self) -> None:
        driver = Driver(resets=False, options=SessionOptions(deaf=self.RULES))
        driver.noise(3.0)
        driver.quiet(2.0)
        assert "AskReset" in driver.asked
        sent = len(driver.audio.sent)
        driver.quiet(5.0)
        assert len(driver.audio.sent) == sent
        driver.wait(6.0)
        assert driver.failures == ["the recogniser did not confirm a reset"]
        driver.end()
        assert driver.audio.was_sent()[: 3 * SAMPLE_RATE].all()

    def test_a_flush_that_is_overdue_meanwhile_is_no_reason_to_spin(self) -> None:
        # The driver fails when a wait ends in the past.
        capabilities = evolve(NO_ACKS, resettable=True)
        options = SessionOptions(deaf=self.RULES)
        driver = Driver(capabilities=capabilities, resets=False, options=options)
        # A burst: sound enough to suspect it, before there was time to.
        driver.frozen = True
        driver.noise(2.5, live=False)
        driver.machine.intake.request_flush()
        driver.wait(20.0)
        assert driver.asked[:2] == ["AskFlush", "AskReset"]
        assert driver.failures[0] == "the recogniser did not confirm a reset"
