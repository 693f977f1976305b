from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyutai_stream.core import FRAME_S, Ledger
from kyutai_stream.core.ledger import UNREPORTED_S, WORD_S


def sent(ledger: Ledger, frames: int) -> Ledger:
    for _ in range(frames):
        ledger.sent()
    return ledger


def reported(frames: int, processed: int, delay_s: float = 0.48) -> Ledger:
    ledger = sent(Ledger(acks=True, delay_s=delay_s), frames)
    ledger.processed(processed)
    return ledger


class TestReports:
    def test_acknowledged_frames_are_heard_and_settled_after_the_delay(self) -> None:
        ledger = reported(100, 50)
        assert ledger.heard_s == pytest.approx(4.0)
        assert ledger.settled_s == pytest.approx(3.52)
        assert ledger.in_flight == 50

    def test_they_cannot_go_back_or_beyond_what_was_sent(self) -> None:
        ledger = sent(Ledger(acks=True, delay_s=0.0), 10)
        assert ledger.processed(7)
        assert not ledger.processed(3)
        assert not ledger.processed(7)
        assert ledger.frames_processed == 7
        assert ledger.processed(99)
        assert ledger.frames_processed == 10

    def test_without_them_the_position_is_estimated(self) -> None:
        ledger = Ledger(acks=False, delay_s=0.48)
        assert ledger.heard_s == 0.0
        assert sent(ledger, 25).heard_s == pytest.approx(1.52)
        assert ledger.settled_s == pytest.approx(1.52)
        assert ledger.in_flight == 0


class TestWords:
    def test_a_word_that_came_out_is_settled(self) -> None:
        ledger = reported(100, 50)
        assert not ledger.settled_by_word
        ledger.word_out(3.9)
        assert ledger.settled_s == pytest.approx(3.9)
        assert ledger.settled_by_word
        ledger.processed(100)
        assert not ledger.settled_by_word

    def test_a_word_dated_back_takes_nothing_away(self) -> None:
        ledger = reported(100, 50)
        ledger.word_out(3.9)
        ledger.word_out(1.0)
        assert ledger.settled_s == pytest.approx(3.9)

    def test_an_open_utterance_is_settled_up_to_its_last_word(self) -> None:
        ledger = reported(100, 100, delay_s=0.0)
        ledger.voice(2.0)
        assert ledger.settled_s == pytest.approx(2.0)
        ledger.word_out(2.5)
        assert ledger.settled_s == pytest.approx(2.5)
        ledger.voice(None)
        assert ledger.settled_s == pytest.approx(8.0)


class TestReplay:
    def test_from_before_the_last_word(self) -> None:
        ledger = reported(100, 50)
        ledger.word_out(3.4)
        assert ledger.replay_from_s(1.0) == pytest.approx(2.4)

    def test_a_word_whose_sound_is_not_complete_is_sent_whole(self) -> None:
        # Nothing came out for a while: what began longer ago than a word lasts has
        # been said, and what is younger may be half of one.
        assert reported(200, 150).replay_from_s(1.0) == pytest.approx(
            12.0 - 0.48 - WORD_S
        )

    def test_never_from_before_the_begin(self) -> None:
        assert reported(20, 10).replay_from_s(1.0) == 0.0
        ledger = reported(20, 10)
        ledger.word_out(0.5)
        assert ledger.replay_from_s(1.0) == 0.0

    def test_a_server_without_reports_may_be_far_behind(self) -> None:
        ledger = sent(Ledger(acks=False, delay_s=0.48), 500)
        assert ledger.replay_from_s(1.0) == pytest.approx(40.0 - UNREPORTED_S)
        ledger.word_out(39.0)
        assert ledger.replay_from_s(1.0) == pytest.approx(38.0)

    def test_an_open_utterance_is_sent_again_from_its_begin(self) -> None:
        ledger = reported(100, 100, delay_s=0.0)
        ledger.voice(5.0)
        ledger.word_out(6.5)
        assert ledger.replay_from_s(1.0) == pytest.approx(4.0)
        ledger.voice(0.3)
        assert ledger.replay_from_s(1.0) == 0.0
        ledger.voice(None)
        assert ledger.replay_from_s(1.0) == pytest.approx(6.5)


calls = st.lists(
    st.tuples(
        st.sampled_from(["sent", "processed", "word", "voice", "quiet"]),
        st.integers(0, 400),
    ),
    max_size=80,
)


@settings(deadline=None)
@given(calls, st.booleans(), st.sampled_from([0.0, 0.48, 2.56]))
def test_what_is_not_settled_is_always_sent_again(
    script: list[tuple[str, int]], acks: bool, delay_s: float
) -> None:
    ledger = Ledger(acks=acks, delay_s=delay_s)
    for name, number in script:
        if name == "sent":
            sent(ledger, number % 40)
        elif name == "processed":
            ledger.processed(number)
        else:
            # A recogniser cannot speak of what it was not sent.
            at = min(number * FRAME_S, ledger.frames_sent * FRAME_S)
            if name == "word":
                ledger.word_out(at)
            else:
                ledger.voice(at if name == "voice" else None)
        assert 0 <= ledger.frames_processed <= ledger.frames_sent
        assert 0 <= ledger.in_flight <= ledger.frames_sent
        assert 0 <= ledger.heard_s <= ledger.frames_sent * FRAME_S
        assert 0 <= ledger.replay_from_s(1.0) <= ledger.settled_s + 1e-9
        assert ledger.settled_s <= ledger.frames_sent * FRAME_S + 1e-9
