"""What comes back from the recogniser."""

from __future__ import annotations

import numpy as np
import pytest

from kyutai_stream import (
    Capabilities,
    Endpoint,
    Final,
    FinalReason,
    Partial,
    SessionOptions,
    SpeechStarted,
)
from kyutai_stream.backend import (
    Pause,
    Progress,
    Ready,
    Voice,
    Word,
    WordEnd,
)
from kyutai_stream.core import FRAME_S
from kyutai_stream.session._actions import Send
from kyutai_stream.session._machine import SessionMachine

from .driver import Driver

OWN_ENDPOINTS = Capabilities(acks=True, endpointing=True)


class TestVoice:
    """A backend that finds the ends of utterances itself."""

    def ready(self) -> SessionMachine:
        machine = SessionMachine("test", SessionOptions(), None, 0.0)
        machine.connecting()
        machine.receive(Ready(capabilities=OWN_ENDPOINTS), 0.0)
        machine.intake.admit(np.full(96_000, 0.1, dtype=np.float32), 10.0, 0.0, 0.0)
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

    def test_its_pauses_close_segments_and_are_no_ends(self) -> None:
        machine = self.ready()
        machine.receive(Voice(active=True, at=1.0), 0.0)
        machine.receive(Word(index=0, text="hello", start=1.0), 0.0)
        machine.receive(Pause(probabilities=(1.0,), horizons_s=(2.0,)), 0.0)
        kinds = [type(event).__name__ for event in machine.events()]
        assert kinds == ["SpeechStarted", "Partial", "Final"]

    def test_voice_without_words_is_still_speech(self) -> None:
        machine = self.ready()
        machine.receive(Voice(active=True, at=0.5), 0.0)
        machine.receive(Voice(active=True, at=0.6), 0.0)
        machine.receive(Voice(active=False, at=1.0), 0.0)
        machine.receive(Voice(active=False, at=1.2), 0.0)
        assert machine.events() == [SpeechStarted(at=10.5), Endpoint(at=11.0)]


def test_pauses_are_read() -> None:
    driver = Driver()
    driver.say("ba")
    driver.quiet(0.6)
    for _ in range(11):
        driver.receive(Pause(probabilities=(0.1, 0.1), horizons_s=(0.5, 2.0)))
    assert not driver.shown.finals
    for _ in range(4):
        driver.receive(Pause(probabilities=(0.2, 0.9), horizons_s=(0.5, 2.0)))
    (final,) = driver.shown.finals
    assert final.reason is FinalReason.ENDPOINT
    (endpoint,) = [e for e in driver.shown.events if isinstance(e, Endpoint)]
    assert endpoint.probability is not None and endpoint.probability > 0.6


def test_a_word_is_never_dated_before_the_last_one() -> None:
    driver = Driver()
    driver.noise(4.0)
    driver.receive(Word(index=0, text="late", start=2.0))
    driver.receive(Word(index=1, text="early", start=1.0))
    driver.wait(2.0)
    (final,) = driver.shown.finals
    assert [word.start for word in final.words] == pytest.approx([2.0, 2.0])
    driver.receive(Word(index=2, text="earlier", start=1.5))
    assert driver.shown.events[-1].start == 2.0  # type: ignore[union-attr]


def test_nothing_in_a_word_is_no_word() -> None:
    driver = Driver()
    driver.noise(1.0)
    driver.receive(Word(index=0, text="  ", start=0.5))
    assert driver.shown.text == ""
    driver.end()
    assert driver.shown.usage.words == 0


def test_an_end_of_another_word_changes_nothing() -> None:
    driver = Driver()
    driver.noise(2.0)
    driver.receive(WordEnd(index=0, end=0.4))
    driver.receive(Word(index=0, text="one", start=0.5))
    driver.receive(WordEnd(index=7, end=1.9))
    driver.receive(WordEnd(index=0, end=0.9))
    driver.end()
    (final,) = driver.shown.finals
    assert final.words[0].end == pytest.approx(0.9)
    assert driver.machine.metrics(driver.now).word_latency.count == 1


def test_silence_of_the_stream_closes_a_segment() -> None:
    driver = Driver()
    driver.say("ba be", gap_s=0.2)
    driver.quiet(3.0)
    driver.say("bi")
    driver.end()
    driver.require_whole()
    assert [final.text for final in driver.shown.finals] == ["ba be", "bi"]
    assert driver.shown.finals[0].reason is FinalReason.SILENCE
    kinds = [type(e).__name__ for e in driver.shown.events]
    assert kinds.count("SpeechStarted") == kinds.count("Endpoint") + 1 == 2
