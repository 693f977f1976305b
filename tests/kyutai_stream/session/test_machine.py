from __future__ import annotations

import numpy as np
import pytest

from kyutai_stream import (
    Capabilities,
    Endpoint,
    Final,
    FinalReason,
    Gap,
    SessionEvent,
    SessionOptions,
    SpeechStarted,
    StateChanged,
    Usage,
)
from kyutai_stream.backend import (
    Draining,
    Pause,
    Progress,
    Ready,
    Voice,
    WasReset,
    Word,
    WordEnd,
)
from kyutai_stream.errors import ConnectionLost
from kyutai_stream.session._machine import SessionMachine

OWN_ENDPOINTS = Capabilities(endpointing=True, acks=True)
KYUTAI = Capabilities(acks=True, nominal_delay_s=0.48, pause_horizons_s=(2.0,))


def ready(capabilities: Capabilities = KYUTAI) -> SessionMachine:
    machine = SessionMachine("test", capabilities, SessionOptions())
    machine.connecting()
    machine.receive(Ready(capabilities=capabilities), 0.0)
    machine.events()
    return machine


def hear(machine: SessionMachine, seconds: float, at: float | None = None) -> None:
    """Feed audio that is sent and processed at once."""
    samples = np.zeros(round(seconds * 24_000), dtype=np.float32)
    for _ in machine.feed(machine.admit(samples, at, 0.0)):
        machine.sent()


def kinds(events: list[SessionEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


class TestVoice:
    def test_it_frames_the_words(self) -> None:
        machine = ready(OWN_ENDPOINTS)
        hear(machine, 4.0, at=10.0)
        machine.receive(Voice(active=True, at=1.0), 0.0)
        machine.receive(Word(index=0, text="hello", start=1.0), 0.0)
        machine.receive(WordEnd(index=0, end=1.5), 0.0)
        # Silence is the backend's business.
        machine.receive(Progress(frames_processed=50, lag_frames=0), 0.0)
        assert kinds(machine.events()) == ["SpeechStarted", "Partial"]
        machine.receive(Voice(active=False, at=1.6), 0.0)
        endpoint, final = machine.events()
        assert isinstance(endpoint, Endpoint) and isinstance(final, Final)
        assert endpoint.at == pytest.approx(11.6)
        assert final.reason is FinalReason.ENDPOINT
        assert final.end == pytest.approx(11.5)

    def test_voice_without_words_is_still_speech(self) -> None:
        machine = ready(OWN_ENDPOINTS)
        hear(machine, 2.0)
        machine.receive(Voice(active=True, at=0.5), 0.0)
        machine.receive(Voice(active=True, at=0.6), 0.0)
        machine.receive(Voice(active=False, at=1.0), 0.0)
        machine.receive(Voice(active=False, at=1.2), 0.0)
        assert machine.events() == [SpeechStarted(at=0.5), Endpoint(at=1.0)]

    def test_an_utterance_cut_off_is_lost_from_its_last_word(self) -> None:
        machine = ready(OWN_ENDPOINTS)
        hear(machine, 4.0)
        machine.receive(Progress(frames_processed=50, lag_frames=0), 0.0)
        machine.receive(Voice(active=True, at=1.0), 0.0)
        machine.events()
        machine.lost(ConnectionLost("x"), 1.0)
        (gap,) = machine.events()
        assert isinstance(gap, Gap)
        assert (gap.start, gap.end) == pytest.approx((1.0, 4.0))


class TestEpochs:
    def test_a_reset_begins_to_count_anew(self) -> None:
        machine = ready()
        hear(machine, 2.0)
        machine.receive(Word(index=0, text="one", start=1.0), 0.0)
        machine.receive(WasReset(), 0.0)
        hear(machine, 1.0)
        machine.receive(Word(index=0, text="two", start=0.5), 0.0)
        machine.end(9.0)
        finals = [event for event in machine.events() if isinstance(event, Final)]
        assert [final.start for final in finals] == pytest.approx([1.0, 2.5])
        assert finals[0].reason is FinalReason.FLUSH

    def test_the_begin_of_a_frame_survives_a_reconnect(self) -> None:
        machine = ready()
        hear(machine, 0.1)
        machine.lost(ConnectionLost("x"), 1.0)
        (gap,) = machine.events()
        assert isinstance(gap, Gap)
        assert gap.end == pytest.approx(0.08)
        machine.receive(Ready(capabilities=KYUTAI), 2.0)
        hear(machine, 0.9)
        machine.receive(Word(index=0, text="one", start=0.5), 0.0)
        started = [e for e in machine.events() if isinstance(e, SpeechStarted)]
        assert started[0].at == pytest.approx(0.58)

    def test_a_connection_that_never_was_ready_loses_nothing(self) -> None:
        machine = SessionMachine("test", KYUTAI, SessionOptions())
        machine.lost(ConnectionLost("x"), 1.0)
        assert machine.events() == []
        assert machine.retry_delay_s(1.0) == 0.5


class TestRetries:
    def test_a_stable_connection_clears_the_failures(self) -> None:
        machine = ready()
        for _ in range(4):
            machine.lost(ConnectionLost("x"), 0.0)
        assert machine.retry_delay_s(1.0) == 4.0
        machine.receive(Ready(capabilities=KYUTAI), 10.0)
        machine.lost(ConnectionLost("x"), 60.0)
        assert machine.retry_delay_s(1.0) == 0.5
        machine.end(60.0)
        (usage,) = [e for e in machine.events() if isinstance(e, Usage)]
        assert usage.connected_s == pytest.approx(50.0)

    def test_connections_that_die_young_add_up(self) -> None:
        machine = ready()
        for now in range(4):
            machine.lost(ConnectionLost("x"), float(now))
            machine.receive(Ready(capabilities=KYUTAI), float(now))
        machine.lost(ConnectionLost("x"), 4.0)
        assert machine.retry_delay_s(1.0) is None

    def test_a_planned_end_is_no_failure(self) -> None:
        machine = ready()
        machine.receive(Draining(deadline_s=5.0), 0.0)
        (state,) = machine.events()
        assert isinstance(state, StateChanged)
        assert state.state == "draining"
        machine.lost(ConnectionLost("x"), 1.0)
        assert machine.retry_delay_s(1.0) == 0.5


def test_a_connection_may_narrow_the_capabilities() -> None:
    machine = ready()
    machine.lost(ConnectionLost("x"), 1.0)
    machine.receive(Ready(capabilities=OWN_ENDPOINTS), 2.0)
    frames, token = machine.flush()
    assert (frames, token) == ([], 1)
    hear(machine, 9.0)
    machine.receive(Word(index=0, text="Yes.", start=0.5), 0.0)
    machine.receive(Progress(frames_processed=100, lag_frames=0), 0.0)
    assert not [event for event in machine.events() if isinstance(event, Final)]


def test_an_unsure_pause_says_nothing() -> None:
    machine = ready()
    machine.receive(Pause(probabilities=(0.1,), horizons_s=(2.0,)), 0.0)
    assert machine.events() == []


def test_the_resamplers_lag_is_taken_off_the_media_time() -> None:
    machine = ready()
    chunk = machine.admit(np.zeros(10, dtype=np.float32), 5.0, 0.001)
    assert chunk.media_time == pytest.approx(4.999)
