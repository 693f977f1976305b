from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.backend import (
    ConnectionEvent,
    Draining,
    Flushed,
    Pause,
    Progress,
    WasReset,
    Word,
    WordEnd,
)
from kyutai_stream.backends._websocket import Ended
from kyutai_stream.backends.modal._failures import FRESH_S
from kyutai_stream.backends.modal._questions import MARGIN_S, STALL_S
from kyutai_stream.backends.modal._stream import ALIVE_S, REMEMBERED, GatewayStream
from kyutai_stream.errors import (
    CapacityError,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    KyutaiStreamError,
    ProtocolError,
)
from kyutai_stream.wire.spelling import HOLD_S


class Driven:
    """A stream with a clock of its own; with `ready` unless told otherwise."""

    def __init__(self, *, ready: bool = True) -> None:
        self.now = 100.0
        self.stream = GatewayStream(delay_s=0.48, now=self.now)
        if ready:
            self.hear("ready", acks=True, pause_horizons_s=[0.5, 2])
        self.stream.established = True

    def send(self, frames: int) -> None:
        for _ in range(frames):
            self.stream.sent(self.now)

    def hear(self, kind: str | None = None, **fields: Any) -> list[ConnectionEvent]:
        typed = {} if kind is None else {"type": kind}
        self.stream.receive(json.dumps({**typed, **fields}), self.now)
        return self.stream.events()

    def token(self, index: int, text: str, start: float, epoch: int = 0) -> list[Any]:
        fields = {"index": index, "text": f" {text}", "start": start, "epoch": epoch}
        return self.hear("token", final=False, vad_end=False, **fields)

    def wait(self, seconds: float) -> list[ConnectionEvent]:
        until = self.now + seconds
        while self.stream.deadline <= until:
            self.now = max(self.now, self.stream.deadline)
            self.stream.tick(self.now)
        self.now = until
        return self.stream.events()


def texts(events: list[ConnectionEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, Word)]


class TestProtocol1:
    """decisions.md, protocol 1."""

    def test_words_with_numbers_and_times(self) -> None:
        driven = Driven()
        assert driven.token(0, "Hello", 0.5) == [Word(index=0, text="Hello", start=0.5)]
        assert driven.token(1, " ", 0.6) == []
        assert driven.token(2, "you  two", 0.7) == [
            Word(index=1, text="you two", start=0.7)
        ]
        assert driven.hear("word_end", epoch=0, index=1, end=0.7) == []
        assert driven.hear("word_end", epoch=0, index=2, end=1) == [
            WordEnd(index=1, end=1.0)
        ]
        assert driven.hear("word_end", epoch=0, index=2, end=1) == []
        assert driven.hear("word_end", epoch=0, index=0, end=0.6) == [
            WordEnd(index=0, end=0.6)
        ]

    def test_a_word_told_twice_counts_once(self) -> None:
        driven = Driven()
        driven.token(4, "one", 0.5)
        assert driven.token(4, "one", 0.5) == []
        assert driven.token(3, "zero", 0.4) == []

    def test_old_ends_are_forgotten(self) -> None:
        driven = Driven()
        for index in range(REMEMBERED + 1):
            driven.token(index, "w", index)
        assert driven.hear("word_end", index=0, end=1) == []
        assert driven.hear("word_end", index=1, end=2) == [WordEnd(index=1, end=2.0)]

    def test_acks_count_samples_of_the_client(self) -> None:
        driven = Driven()
        driven.send(3)
        assert driven.hear("ack", epoch=0, samples=1920, lag=9, prs=[0, 1]) == [
            Progress(frames_processed=1, lag_frames=2),
            Pause(probabilities=(0.0, 1.0), horizons_s=(0.5, 2.0)),
        ]
        # Silence of its own is not counted; neither too much nor less than before.
        for samples, frames in ((5_759, 2), (99_999, 3), (1_920, 3)):
            (progress,) = driven.hear("ack", samples=samples, prs=[1])
            assert progress == Progress(frames_processed=frames, lag_frames=3 - frames)

    def test_vad_end_is_a_certain_pause(self) -> None:
        events = Driven().hear("vad_end", text="", final=True, vad_end=True, epoch=0)
        assert events == [Pause(probabilities=(1.0, 1.0), horizons_s=(0.5, 2.0))]

    def test_flush_and_its_answer(self) -> None:
        driven = Driven()
        driven.send(1)
        asked = driven.stream.flush(70, driven.now)
        assert json.loads(asked or "") == {"type": "flush", "id": 1}
        driven.stream.flush(71, driven.now)
        driven.stream.flush(72, driven.now)
        assert driven.wait(5) == []
        assert driven.hear("flushed", id=2) == [Flushed(token=70), Flushed(token=71)]
        assert driven.hear("flushed", id=2) == []
        assert driven.hear("flushed") == [Flushed(token=72)]

    def test_a_flush_without_answer_is_a_loss_unless_acks_come(self) -> None:
        driven = Driven()
        driven.send(1)
        driven.stream.flush(1, driven.now)
        driven.wait(STALL_S - 1)
        driven.hear("ack", samples=0)
        driven.wait(STALL_S - 1)
        with pytest.raises(ConnectionLost, match="flush"):
            driven.wait(2)

    def test_controls_that_it_does_not_know_are_waited_for_instead(self) -> None:
        driven = Driven()
        driven.stream.flush(1, driven.now)
        assert driven.hear("error", code="bad_control", retryable=True) == []
        assert driven.wait(STALL_S) == [Flushed(token=1)]

    def test_but_no_longer_because_it_acknowledges(self) -> None:
        driven = Driven()
        driven.stream.flush(1, driven.now)
        driven.hear("error", code="bad_control", retryable=True)
        driven.wait(STALL_S - 1)
        driven.hear("ack", samples=0)
        assert driven.wait(1) == [Flushed(token=1)]

    def test_reset_divides_the_epochs(self) -> None:
        driven = Driven()
        driven.send(2)
        driven.token(0, "old", 0.1)
        asked = driven.stream.reset(driven.now)
        assert json.loads(asked) == {"type": "reset", "id": 1}
        driven.send(1)
        assert driven.hear("ack", epoch=0, samples=3840) == [
            Progress(frames_processed=2, lag_frames=0)
        ]
        assert driven.hear("was_reset", id=1, epoch=1) == [WasReset()]
        assert driven.hear("ack", epoch=0, samples=3840, prs=[1, 1]) == []
        assert driven.token(9, "late", 0.1, epoch=0) == []
        assert driven.hear("word_end", epoch=0, index=0, end=1) == []
        assert driven.hear("vad_end", epoch=0) == []
        assert driven.token(0, "new", 0, epoch=1) == [
            Word(index=0, text="new", start=0.0)
        ]
        assert driven.hear("ack", epoch=1, samples=1920) == [
            Progress(frames_processed=1, lag_frames=0)
        ]
        driven.stream.reset(driven.now)
        driven.stream.reset(driven.now)
        assert driven.hear("was_reset", epoch=2) == [WasReset()]
        assert driven.hear("was_reset", epoch=3) == [WasReset()]

    def test_a_reset_without_answer_is_a_loss_unless_acks_come(self) -> None:
        driven = Driven()
        driven.stream.reset(driven.now)
        driven.wait(STALL_S - 1)
        driven.hear("ack", samples=0)
        driven.wait(STALL_S - 1)
        with pytest.raises(ConnectionLost, match="reset"):
            driven.wait(2)

    @pytest.mark.parametrize(
        "message",
        [
            {"kind": "was_reset", "epoch": 1},
            {"kind": "ack", "epoch": 7, "samples": 1},
        ],
    )
    def test_a_new_epoch_that_nobody_asked_for(self, message: dict[str, Any]) -> None:
        driven = Driven()
        driven.hear("ack", epoch=0, samples=0)
        with pytest.raises(ConnectionLost, match="anew"):
            driven.hear(**message)

    def test_draining(self) -> None:
        driven = Driven()
        assert driven.hear("draining", deadline_s=5) == [Draining(deadline_s=5.0)]
        assert driven.hear("draining", deadline_s=-5) == [Draining(deadline_s=0.0)]
        assert driven.hear("end") == []

    def test_pings_keep_it_alive(self) -> None:
        driven = Driven()
        for _ in range(9):
            assert driven.wait(ALIVE_S - 1) == []
            assert driven.hear("ping") == []
        with pytest.raises(ConnectionLost, match="silent"):
            driven.wait(ALIVE_S)

    def test_a_second_ready_and_unknown_messages_change_nothing(self) -> None:
        driven = Driven()
        assert driven.hear("ready", acks=False) == driven.hear("hologram") == []
        assert driven.stream.ready is not None and driven.stream.ready.acks


class TestOlder:
    """kyutai-stt.md 2.1, and the project document."""

    def test_words_are_dated_by_what_was_sent(self) -> None:
        driven = Driven(ready=False)
        assert driven.hear("token", text="first") == [
            Word(index=0, text="first", start=0.0)
        ]
        assert driven.stream.is_older
        driven.send(25)
        (word,) = driven.hear("token", text="word")
        assert isinstance(word, Word)
        assert word.start == pytest.approx(2.0 - 0.48 - 0.24)
        events = driven.hear("token", text="two more")
        starts = [event.start for event in events if isinstance(event, Word)]
        assert starts == sorted(starts)
        assert starts[0] >= word.start and starts[1] < 2.0

    def test_pieces_become_words(self) -> None:
        driven = Driven(ready=False)
        events = []
        for text in (" Hel", "lo", " you"):
            events += driven.hear("token", text=text)
        assert texts(events) == ["Hello"]
        assert texts(driven.wait(HOLD_S)) == ["you"]
        assert driven.stream.deadline == math.inf

    def test_a_pause_brings_out_the_word_held_back(self) -> None:
        driven = Driven(ready=False)
        driven.hear("token", text=" you")
        word, pause = driven.hear("vad_end")
        assert texts([word]) == ["you"]
        assert pause == Pause(probabilities=(1.0,), horizons_s=(2.0,))

    @pytest.mark.parametrize(
        "message",
        [{"text": "", "final": True, "vad_end": True}, {"text": "", "final": True}],
    )
    def test_untyped_text(self, message: dict[str, Any]) -> None:
        driven = Driven(ready=False)
        assert driven.hear(text="alpha", final=False, vad_end=False) == []
        assert driven.stream.is_older
        word, pause = driven.hear(**message)
        assert texts([word]) == ["alpha"]
        assert isinstance(pause, Pause)

    def test_a_flush_waits_as_long_as_real_time_needs(self) -> None:
        driven = Driven(ready=False)
        driven.send(10)
        assert driven.stream.flush(1, driven.now) is None
        assert driven.wait(0.8 + MARGIN_S - 0.01) == []
        driven.hear("token", text=" late")
        assert driven.wait(0.02) == []
        events = driven.wait(MARGIN_S)
        assert texts(events) == ["late"]
        assert events[-1] == Flushed(token=1)

    def test_the_word_held_back_comes_before_the_flush(self) -> None:
        driven = Driven(ready=False)
        driven.stream.flush(1, driven.now)
        driven.now += MARGIN_S - 0.01
        driven.hear("token", text=" late")
        driven.stream._questions._flushes[0].due = driven.now
        assert [type(event) for event in driven.wait(0.0)] == [Word, Flushed]

    def test_it_cannot_be_reset(self) -> None:
        with pytest.raises(ConfigError):
            Driven(ready=False).stream.reset(100.0)

    def test_silence_of_an_older_one_is_no_loss(self) -> None:
        driven = Driven(ready=False)
        driven.hear("ping")
        assert driven.wait(1_000) == []
        assert not driven.stream.is_older

    def test_a_late_ready_changes_what_can_be_asked(self) -> None:
        driven = Driven(ready=False)
        driven.send(1)
        driven.hear("token", text="early")
        driven.hear("ready", acks=True, pause_horizons_s=[2])
        assert driven.token(0, "numbered", 0.0) == [
            Word(index=1, text="numbered", start=0.0)
        ]
        assert driven.stream.flush(1, driven.now) is not None


class TestFailures:
    @pytest.mark.parametrize(
        ("code", "early", "later"),
        [
            (1000, CapacityError, ConnectionLost),
            (1005, CapacityError, ConnectionLost),
            (1001, CapacityError, ConnectionLost),
            (1006, CapacityError, ConnectionLost),
            (1011, ConnectFailed, ConnectionLost),
            (1012, CapacityError, ConnectionLost),
            (1013, CapacityError, CapacityError),
            (4503, CapacityError, CapacityError),
            (1003, ProtocolError, ProtocolError),
        ],
    )
    def test_close_codes(
        self,
        code: int,
        early: type[KyutaiStreamError],
        later: type[KyutaiStreamError],
    ) -> None:
        driven = Driven()
        driven.stream.established = False
        assert type(driven.stream.ended(Ended(code), driven.now)) is early
        driven.stream.established = True
        driven.token(0, "word", 0)
        error = driven.stream.ended(Ended(code), driven.now)
        assert type(error) is later and str(code) in str(error)

    def test_an_older_one_without_a_word_was_full_at_first_only(self) -> None:
        driven = Driven(ready=False)
        early = driven.stream.ended(Ended(1000), driven.now + FRESH_S)
        assert isinstance(early, CapacityError)
        late = driven.stream.ended(Ended(1000), driven.now + FRESH_S + 1)
        assert isinstance(late, ConnectionLost)

    def test_our_own_reasons(self) -> None:
        error = Driven().stream.ended(Ended(1006, by_us=1009), 100.0)
        assert isinstance(error, ProtocolError)

    @pytest.mark.parametrize(
        ("fields", "early", "later"),
        [
            ({"code": "capacity"}, CapacityError, CapacityError),
            ({"code": "draining"}, CapacityError, ConnectionLost),
            ({"code": "upstream_lost"}, ConnectFailed, ConnectionLost),
            ({"code": "upstream_wedged"}, ConnectFailed, ConnectionLost),
            ({"code": "idle_timeout"}, ConnectFailed, ConnectionLost),
            ({"code": "internal", "message": "secret"}, ConnectFailed, ConnectionLost),
            ({"code": "bad_audio"}, ConnectFailed, ProtocolError),
            ({"code": "other", "retryable": False}, ProtocolError, ProtocolError),
            ({"message": "secret"}, ConnectFailed, ConnectionLost),
        ],
    )
    def test_error_messages(
        self,
        fields: dict[str, Any],
        early: type[KyutaiStreamError],
        later: type[KyutaiStreamError],
    ) -> None:
        driven = Driven()
        driven.stream.established = False
        with pytest.raises(KyutaiStreamError) as first:
            driven.hear("error", **fields)
        driven.stream.established = True
        with pytest.raises(KyutaiStreamError) as second:
            driven.hear("error", **fields)
        assert (type(first.value), type(second.value)) == (early, later)
        assert "secret" not in str(second.value)

    def test_generation_1_is_recognised_by_its_complaint(self) -> None:
        driven = Driven(ready=False)
        with pytest.raises(ProtocolError, match="gen1"):
            driven.hear(error="Invalid audio format (must be PCM16)")


@given(st.lists(st.sampled_from(["send", "ack", "flush", "reset", "wait"])))
def test_every_flush_and_reset_is_answered_once_and_in_order(acts: list[str]) -> None:
    """An honest gateway that may lag; answers come in the order of asking."""
    driven = Driven()
    asked: list[ConnectionEvent] = []
    answered: list[ConnectionEvent] = []
    line: list[dict[str, Any]] = []
    epoch, samples = 0, 0
    for number, act in enumerate(acts):
        match act:
            case "send":
                driven.send(1)
                samples += 1920
                line.append({"kind": "ack", "epoch": epoch, "samples": samples})
            case "ack" if line:
                answered += driven.hear(**line.pop(0))
            case "flush":
                message = json.loads(driven.stream.flush(number, driven.now) or "")
                line.append({"kind": "flushed", "id": message["id"], "epoch": epoch})
                asked.append(Flushed(token=number))
            case "reset":
                driven.stream.reset(driven.now)
                epoch, samples = epoch + 1, 0
                line.append({"kind": "was_reset", "epoch": epoch})
                asked.append(WasReset())
            case "wait":
                answered += driven.wait(0.1)
    for message in line:
        answered += driven.hear(**message)
    told = [event for event in answered if isinstance(event, Flushed | WasReset)]
    assert told == asked
    progress = [event for event in answered if isinstance(event, Progress)]
    assert len(progress) == acts.count("send")
    assert all(event.lag_frames >= 0 for event in progress)
