# SPDX-License-Identifier: AGPL-3.0-or-later
"""Each trouble of a room is told once, and so is its end."""

from __future__ import annotations

import logging

import pytest

from live_transcription.roomlog import RoomLog


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="live_transcription")
    return caplog


def test_what_everybody_suffers_from_is_told_once(
    told: pytest.LogCaptureFixture,
) -> None:
    log = RoomLog("abcd")
    for _ in range(3):
        for speaker in ("alice", "ben", "carol"):
            log.begin(speaker, "the recogniser is away")
    assert told.messages == ["the recogniser is away"]
    fields = vars(told.records[0])
    assert (fields["room_token"], fields["speaker_session_id"]) == ("abcd", "alice")
    assert fields["levelno"] == logging.WARNING


def test_the_end_is_told_when_nobody_suffers_any_more(
    told: pytest.LogCaptureFixture,
) -> None:
    log = RoomLog("abcd")
    for speaker in ("alice", "ben"):
        log.begin(speaker, "the recogniser is away")
    told.clear()
    log.end("alice")
    assert told.messages == []
    log.end("ben")
    log.end("ben")
    assert told.messages == ["over: the recogniser is away"]
    assert told.records[0].levelno == logging.INFO
    # Another outage is news.
    log.begin("alice", "the recogniser is away")
    assert told.messages[1:] == ["the recogniser is away"]


def test_another_trouble_of_one_speaker_is_told(
    told: pytest.LogCaptureFixture,
) -> None:
    log = RoomLog("abcd")
    log.begin("alice", "the recogniser is away")
    log.begin("alice", "the key is not accepted")
    log.end("alice")
    assert told.messages == [
        "the recogniser is away",
        "the key is not accepted",
        "over: the key is not accepted",
    ]


def test_who_left_has_no_trouble(told: pytest.LogCaptureFixture) -> None:
    log = RoomLog("abcd")
    log.begin("alice", "the recogniser is away")
    log.forget("alice")
    log.end("alice")
    assert told.messages == ["the recogniser is away"]
