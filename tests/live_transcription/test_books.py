# SPDX-License-Identifier: AGPL-3.0-or-later
"""What was lost is counted exactly and told without noise."""

from __future__ import annotations

import logging

import pytest

from live_transcription.books import Losses, SpeakerBooks
from live_transcription.roomlog import RoomLog


def test_a_recogniser_that_is_too_slow_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="live_transcription")
    books = SpeakerBooks("alice", RoomLog("abcd"))
    books.dropped(0.02)
    books.caught_up()
    assert caplog.messages == [
        "audio waited too long for the recogniser: the oldest is lost",
        "the recogniser has caught up; 0.0 s of audio were lost",
    ]
    caplog.clear()
    for _ in range(500):
        # One chunk is taken, and the oldest of the others gives way to a new one.
        books.dropped(0.02)
        books.dropped(0.0)
        books.handed_over()
    assert len(caplog.records) == 1
    books.caught_up()
    books.caught_up()
    assert caplog.messages[1:] == [
        "the recogniser has caught up; 10.0 s of audio were lost"
    ]
    assert books.losses.gaps == 500
    assert books.losses.dropped_s == pytest.approx(10.02)


def test_books_of_all_speakers_add_up() -> None:
    losses = Losses(gaps=1, gap_s=1.5, dropped_s=0.5, errors=2)
    losses.add(Losses(gaps=2, gap_s=0.254, dropped_s=0.25, errors=0))
    assert losses.status() == {
        "gaps": 3,
        "gap_s": 1.75,
        "dropped_s": 0.75,
        "errors": 2,
    }
