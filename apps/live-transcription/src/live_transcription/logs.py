# SPDX-License-Identifier: AGPL-3.0-or-later
"""Structured logs: JSON lines on stdout, warnings also for Nextcloud's log.

No line holds what people said, secrets, tickets or SDP: nothing that is logged
here is ever given such a value.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

from attrs import field, frozen

__all__ = ["JsonFormatter", "LogLine", "LogQueue", "configure_logging"]

OUR_LOGGERS = ("live_transcription", "spreed_signaling", "kyutai_stream")
"""Loggers whose warnings an administrator should see in Nextcloud."""

_NO_FIELDS = frozenset(
    {
        *vars(logging.LogRecord("", 0, "", 0, "", None, None)),
        "message",
        "asctime",
        # uvicorn's: the message once more, for a terminal.
        "color_message",
    }
)


class JsonFormatter(logging.Formatter):
    """One JSON object for each record; `extra` fields become keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            key: value for key, value in vars(record).items() if key not in _NO_FIELDS
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure_logging(stream: TextIO | None = None) -> None:
    """Send every record from INFO up to stdout as JSON.

    Args:
        stream: Somewhere else than stdout.
    """
    handler = logging.StreamHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # They report single requests and packets, which is no news at INFO.
    for name in ("aioice", "aiortc", "niquests", "urllib3", "websockets"):
        logging.getLogger(name).setLevel(logging.WARNING)


@frozen(kw_only=True)
class LogLine:
    """One record on its way to Nextcloud."""

    level: int
    """Nextcloud's: 2 warning, 3 error, 4 fatal."""
    text: str = field(repr=False)


class LogQueue(logging.Handler):
    """Keeps the newest warnings for Nextcloud; full drops the oldest, counted.

    Args:
        limit: Lines that may wait.
    """

    def __init__(self, limit: int = 200) -> None:
        super().__init__(level=logging.WARNING)
        self._lines: deque[LogLine] = deque()
        self._limit = limit
        self._guard = threading.Lock()
        self._notify: Callable[[], object] = lambda: None
        self.dropped = 0
        """Lines that never reached Nextcloud."""

    def attach(self, notify: Callable[[], object]) -> None:
        """Start collecting; `notify` is called, in any thread, for each line."""
        self._notify = notify
        for name in OUR_LOGGERS:
            logging.getLogger(name).addHandler(self)

    def detach(self) -> None:
        """Stop collecting."""
        for name in OUR_LOGGERS:
            logging.getLogger(name).removeHandler(self)
        self._notify = lambda: None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        room = getattr(record, "room_token", None)
        prefix = "" if room is None else f"[room {room}] "
        level = 4 if record.levelno >= logging.CRITICAL else 3
        if record.levelno < logging.ERROR:
            level = 2
        line = LogLine(level=level, text=f"{prefix}{record.getMessage()}")
        with self._guard:
            if len(self._lines) >= self._limit:
                self._lines.popleft()
                self.dropped += 1
            self._lines.append(line)
        self._notify()

    def put_back(self, line: LogLine) -> None:
        """Undo `take`; newer lines come first where there is no room for all."""
        with self._guard:
            if len(self._lines) >= self._limit:
                self.dropped += 1
            else:
                self._lines.appendleft(line)

    def take(self) -> LogLine | None:
        """Return the oldest line, None if none waits."""
        with self._guard:
            return self._lines.popleft() if self._lines else None
