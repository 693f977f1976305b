# SPDX-License-Identifier: AGPL-3.0-or-later
"""The demo as append-only text or JSON Lines: for pipes, files and plain terminals."""

from __future__ import annotations

from typing import Self, TextIO

from .output import DemoStatus, print_line, summary_lines
from .report import CaptionRecord, SummaryRecord

__all__ = ["JsonOutput", "PlainOutput"]


class PlainOutput:
    """Append-only lines: `>>` for a text that may still change, `##` for a final.

    Args:
        stdout: Where captions go.
        stderr: Where progress and errors go.
    """

    def __init__(self, *, stdout: TextIO, stderr: TextIO) -> None:
        self._stdout = stdout
        self._stderr = stderr

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return None

    def step(self, text: str) -> None:
        """Print the step to stderr."""
        print_line(self._stderr, f"… {text}")

    def status(self, status: DemoStatus) -> None:
        """Print what runs to stderr, one fact a line."""
        print_line(self._stderr, f"= {status.servers()}; {status.recogniser()}")
        if status.page_url is not None:
            print_line(self._stderr, f"= captions in the browser: {status.page_url}")

    def caption(self, record: CaptionRecord) -> None:
        """Print the caption to stdout."""
        mark = "##" if record.final else ">>"
        print_line(self._stdout, f"{mark} {record.speaker}: {record.text}")

    def summary(self, record: SummaryRecord) -> None:
        """Print the result to stdout."""
        for line in summary_lines(record):
            print_line(self._stdout, f"= {line}")

    def error(self, text: str) -> None:
        """Print the text to stderr."""
        print_line(self._stderr, f"error: {text}")


class JsonOutput(PlainOutput):
    """JSON Lines on stdout and nothing else there; the rest is text on stderr."""

    def caption(self, record: CaptionRecord) -> None:
        """Print the record as one line of JSON."""
        print_line(self._stdout, record.to_json())

    def summary(self, record: SummaryRecord) -> None:
        """Print the record as the last line of JSON."""
        print_line(self._stdout, record.to_json())
