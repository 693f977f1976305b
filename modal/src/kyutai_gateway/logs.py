# SPDX-License-Identifier: MIT
"""Logs as JSON, one line for each event; never a word that was said, never a key.

Our own lines are an event's name and fields that are numbers, codes or names. Of
what other libraries say, only warnings are kept, and of those the first line: their
details may quote messages.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from typing import IO, Any

__all__ = ["JsonFormatter", "configure", "log"]

OURS = "kyutai_gateway"

NOT_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
LONGEST_TEXT = 300

logger = logging.getLogger(OURS)


class JsonFormatter(logging.Formatter):
    """One JSON object for each record.

    Keys: `ts` (seconds since 1970), `level`, `event`, and the event's own fields,
    which are whatever `extra` holds; a text in words is `text`. A failure adds `error`
    (its type) and `at` (where it was raised), not its text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": "log",
        }
        if record.name.partition(".")[0] == OURS:
            line |= {k: v for k, v in record.__dict__.items() if k not in NOT_FIELDS}
        text = record.getMessage().partition("\n")[0][:LONGEST_TEXT]
        if text != line["event"]:
            line |= {"logger": record.name, "text": text}
        if record.exc_info and record.exc_info[1] is not None:
            line |= _failure(record.exc_info[1])
        return json.dumps(line, default=str)


def _failure(exc: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(exc.__traceback__)[-3:]
    places = [f"{one.filename.rpartition('/')[2]}:{one.lineno}" for one in frames]
    return {"error": type(exc).__name__, "at": places}


def log(
    event: str,
    *,
    level: int = logging.INFO,
    exc: BaseException | None = None,
    **fields: object,
) -> None:
    """Log an event.

    Args:
        event: Its name, constant.
        level: Of `logging`.
        exc: What failed, if anything; its type and place are logged.
        fields: Numbers, codes, names; never speech, keys or texts of clients. Not
            named as an attribute of `logging.LogRecord`.
    """
    logger.log(level, event, extra={"event": event, **fields}, exc_info=exc)


def configure(level: str = "info", stream: IO[str] | None = None) -> None:
    """Send all logs of the process to one stream, as JSON.

    Args:
        level: Least severe level of the gateway's own events; of other libraries
            nothing below warnings is kept, whatever is set here.
        stream: Where to; None for standard output.
    """
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logger.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "websockets"):
        # At DEBUG these write whole messages.
        other = logging.getLogger(name)
        other.handlers.clear()
        other.propagate = True
        other.setLevel(logging.WARNING)
