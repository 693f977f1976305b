"""JSON lines, one an event."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from kyutai_gateway.logs import configure, log


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger("kyutai_gateway")
    before = (list(root.handlers), root.level, ours.level)
    stream = io.StringIO()
    configure("info", stream)
    yield stream
    root.handlers[:], root.level = before[0], before[1]
    ours.setLevel(before[2])


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_events(output: io.StringIO) -> None:
    log("opened", stream=3, used=1)
    log("quiet", level=logging.DEBUG)
    logging.getLogger("kyutai_gateway.x").warning(
        "it is %s", "wedged", extra={"event": "state", "why": "no step"}
    )
    first, second = lines(output)
    assert first.pop("ts") > 1.6e9
    assert first == {"level": "info", "event": "opened", "stream": 3, "used": 1}
    assert second["event"] == "state"
    assert (second["text"], second["why"]) == ("it is wedged", "no step")


def test_a_failure_shows_where_and_not_what(output: io.StringIO) -> None:
    try:
        raise ValueError("alpha bravo")
    except ValueError as exc:
        log("failed", exc=exc)
        logging.getLogger("uvicorn.error").exception("Exception in app\nalpha bravo")
    for line in lines(output):
        assert line["error"] == "ValueError"
        assert line["at"][0].startswith("test_logs.py:")
    assert "alpha" not in output.getvalue()


def test_others_only_warn(output: io.StringIO) -> None:
    for name in ("uvicorn.error", "websockets.server", "kyutai_stream.x", "other"):
        logging.getLogger(name).info("> TEXT alpha bravo")
        logging.getLogger(name).warning("trouble")
    assert [line["text"] for line in lines(output)] == ["trouble"] * 4
