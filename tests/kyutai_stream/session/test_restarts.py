"""Restarts of a working recogniser, and servers that announce their end."""

from __future__ import annotations

import pytest
from attrs import evolve

from kyutai_stream import (
    DeafRules,
    FinalReason,
    LanguageMismatch,
    SessionOptions,
)
from kyutai_stream.backend import (
    Draining,
    Word,
)
from kyutai_stream.session._actions import Leaving

from .driver import KYUTAI, Driver


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
        assert driver.shown.states[1:4] == ["ready", "draining", "reconnecting"]
        assert FinalReason.DISCONNECT not in [
            final.reason for final in driver.shown.finals
        ]

    def test_without_a_pause_it_leaves_before_the_deadline(self) -> None:
        driver = Driver()
        driver.wait(0.02)
        driver.receive(Draining(deadline_s=5.0))
        told = driver.now
        driver.noise(8.0)
        assert driver.left == [Leaving.DRAINING]
        assert driver.attempts[1] - told == pytest.approx(2.0, abs=0.05)

    def test_a_short_deadline_leaves_some_time(self) -> None:
        driver = Driver()
        driver.wait(0.02)
        driver.receive(Draining(deadline_s=1.0))
        told = driver.now
        driver.noise(2.0)
        assert driver.attempts[1] - told == pytest.approx(0.4, abs=0.05)

    @pytest.mark.parametrize("waits", [True, False])
    def test_failures_before_it_are_forgotten(self, waits: bool) -> None:
        driver = Driver(up=False)
        driver.wait(3.0)
        driver.up = True
        while not driver.machine.is_ready:
            driver.wait(0.02)
        driver.receive(Draining(deadline_s=1.0))
        if waits:
            # It leaves, and the next connection is lost at once.
            driver.wait(0.6)
        driver.lose()
        lost = driver.now
        driver.wait(1.0)
        assert 0.3 <= driver.attempts[-1] - lost <= 0.4


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
        # The counts of both epochs.
        assert driver.shown.usage.audio_processed_s == pytest.approx(
            driver.audio.frames_sent_s()
        )

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
        assert driver.audio.sent_again_s() < 12 + 4 * 4

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
        (told,) = [e for e in driver.shown.events if isinstance(e, LanguageMismatch)]
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
        assert driver.shown.text == driver.said
        assert driver.machine.metrics(driver.now).language_resets == 1

    def test_a_new_connection_may_be_wrong_again(self) -> None:
        driver = Driver(language="en")
        for _ in range(2):
            driver.say(self.FRENCH)
            driver.wait(1.0)
            driver.lose()
        told = [e for e in driver.shown.events if isinstance(e, LanguageMismatch)]
        assert len(told) == 2

    def test_a_session_without_language_has_none_to_miss(self) -> None:
        driver = Driver()
        driver.say(self.FRENCH)
        driver.wait(1.0)
        assert not [e for e in driver.shown.events if isinstance(e, LanguageMismatch)]


def test_the_watch_can_be_turned_off() -> None:
    driver = Driver(options=SessionOptions(deaf=None))
    driver.noise(40.0)
    driver.receive(Word(index=0, text="late", start=30.0))
    assert driver.asked == []
