# SPDX-License-Identifier: AGPL-3.0-or-later
"""Structured logs, and the queue of warnings for Nextcloud."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from live_transcription.logs import JsonFormatter, LogQueue


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.getLogger("live_transcription.test")
    yield found
    found.handlers.clear()


def test_extra_fields_become_keys(logger: logging.Logger) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.warning("seen %d", 3, extra={"room_token": "abcd"})
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["message"] == "seen 3"
    assert first["level"] == "WARNING"
    assert first["room_token"] == "abcd"
    assert "ValueError: broken" in second["traceback"]


def test_nothing_is_said_twice(logger: logging.Logger) -> None:
    # uvicorn gives its messages once more, with a terminal's escape codes.
    record = logger.makeRecord(
        logger.name,
        logging.INFO,
        "",
        0,
        "Started",
        (),
        None,
        None,
        {"color_message": "\x1b[36mStarted\x1b[0m"},
    )
    line = json.loads(JsonFormatter().format(record))
    assert line.keys() == {"time", "level", "logger", "message"}


def test_only_warnings_are_kept(logger: logging.Logger) -> None:
    queue, rung = LogQueue(), []
    queue.attach(lambda: rung.append(1))
    try:
        logger.setLevel(logging.DEBUG)
        logger.info("quiet")
        logger.warning("careful", extra={"room_token": "abcd"})
        logger.error("bad")
        logger.critical("worse")
        logging.getLogger("uvicorn.error").error("not ours")
    finally:
        queue.detach()
    logger.warning("too late")
    lines = [queue.take() for _ in range(4)]
    assert [line and (line.level, line.text) for line in lines] == [
        (2, "[room abcd] careful"),
        (3, "bad"),
        (4, "worse"),
        None,
    ]
    assert len(rung) == 3


def test_a_line_put_back_comes_next_unless_newer_ones_need_the_room(
    logger: logging.Logger,
) -> None:
    queue = LogQueue(limit=2)
    queue.attach(lambda: None)
    try:
        for number in range(2):
            logger.warning("line %d", number)
        first = queue.take()
        assert first is not None
        queue.put_back(first)
        assert queue.take() == first
        logger.warning("line 2")
        queue.put_back(first)
    finally:
        queue.detach()
    kept = [queue.take(), queue.take(), queue.take()]
    assert [line and line.text for line in kept] == ["line 1", "line 2", None]
    assert queue.dropped == 1


def test_full_drops_the_oldest_and_counts(logger: logging.Logger) -> None:
    queue = LogQueue(limit=2)
    queue.attach(lambda: None)
    try:
        for number in range(5):
            logger.warning("line %d", number)
    finally:
        queue.detach()
    kept = [queue.take(), queue.take(), queue.take()]
    assert [line and line.text for line in kept] == ["line 3", "line 4", None]
    assert queue.dropped == 3
