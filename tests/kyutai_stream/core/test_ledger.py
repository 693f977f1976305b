from __future__ import annotations

import pytest

from kyutai_stream.core import Ledger


def sent(ledger: Ledger, frames: int) -> Ledger:
    for _ in range(frames):
        ledger.sent()
    return ledger


def test_acknowledged_frames_are_heard_and_settled_after_the_delay() -> None:
    ledger = sent(Ledger(acks=True, delay_s=0.48), 100)
    ledger.processed(50)
    assert ledger.heard_s == pytest.approx(4.0)
    assert ledger.settled_s == pytest.approx(3.52)


def test_reports_cannot_go_back_or_beyond_what_was_sent() -> None:
    ledger = sent(Ledger(acks=True, delay_s=0.0), 10)
    ledger.processed(7)
    ledger.processed(3)
    assert ledger.frames_processed == 7
    ledger.processed(99)
    assert ledger.frames_processed == 10


def test_without_acks_the_position_is_estimated() -> None:
    ledger = Ledger(acks=False, delay_s=0.48)
    assert ledger.heard_s == 0.0
    assert sent(ledger, 25).heard_s == pytest.approx(1.52)
    assert ledger.settled_s == pytest.approx(1.52)


def test_a_word_that_came_out_is_settled() -> None:
    ledger = sent(Ledger(acks=True, delay_s=0.48), 100)
    ledger.processed(50)
    ledger.word_out(3.9)
    assert ledger.settled_s == pytest.approx(3.9)


def test_an_open_utterance_is_settled_up_to_its_last_word() -> None:
    ledger = sent(Ledger(acks=True, delay_s=0.0), 100)
    ledger.processed(100)
    ledger.voice(2.0)
    assert ledger.settled_s == pytest.approx(2.0)
    ledger.word_out(2.5)
    assert ledger.settled_s == pytest.approx(2.5)
    ledger.voice(None)
    assert ledger.settled_s == pytest.approx(8.0)
