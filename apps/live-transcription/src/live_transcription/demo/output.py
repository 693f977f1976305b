# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the demo tells people, whatever shows it, and how figures are worded."""

from __future__ import annotations

from typing import Protocol, Self, TextIO

from attrs import frozen

from .report import CaptionRecord, SummaryRecord, TalkerScore

__all__ = [
    "DemoStatus",
    "Output",
    "Progress",
    "print_line",
    "summary_lines",
    "word_errors",
]


@frozen(kw_only=True)
class DemoStatus:
    """What runs, for the status line."""

    signaling: str
    """Kind of the signaling server: "real" or "embedded"."""
    hpb_version: str
    """Version that the signaling server reported."""
    backend: str
    """Name of the speech-to-text backend."""
    note: str = ""
    """What must be said about it, e.g. "low accuracy"; empty if nothing."""
    page_url: str | None = None
    """Address of the caption page; None without one."""
    transcribe_http_ms: float | None = None
    """Milliseconds that the request to switch captions on took, once it is known."""

    def servers(self) -> str:
        """Name the signaling server in one phrase."""
        return f"{self.signaling} signaling server {self.hpb_version}"

    def recogniser(self) -> str:
        """Name the recogniser in one phrase, with the note."""
        if self.backend == "pocketsphinx":
            return "demo recogniser: pocketsphinx, low accuracy"
        return f"recogniser: {self.backend}" + (f", {self.note}" if self.note else "")


class Progress(Protocol):
    """Takes notice of what is going on while things start and end."""

    def step(self, text: str) -> None:
        """Say that something begins; the step before it is done by that.

        Args:
            text: What begins, as in "starting signaling server".
        """


class Output(Progress, Protocol):
    """What the demo talks to. Use it as a context manager around the whole run.

    All methods return at once and are called from one thread.
    """

    def __enter__(self) -> Self:
        """Take the terminal over, where there is one."""

    def __exit__(self, *exc_info: object) -> None:
        """Leave the terminal as it was."""

    def status(self, status: DemoStatus) -> None:
        """Show what runs; called when captions can come, again when it changes."""

    def caption(self, record: CaptionRecord) -> None:
        """Show one caption."""

    def summary(self, record: SummaryRecord) -> None:
        """Show the result; nothing is shown after it but errors."""

    def error(self, text: str) -> None:
        """Say in plain words what went wrong; always on stderr."""


def print_line(stream: TextIO, line: str) -> None:
    """Write a line at once.

    A reader at the other end of a pipe sees captions when they come.
    """
    stream.write(line + "\n")
    stream.flush()


def _percent(rate: float | None) -> str:
    return "unknown" if rate is None else f"{rate:.1%}"


def word_errors(talker: TalkerScore) -> str:
    """Say how well a talker was understood."""
    exact = {None: "", True: " (exact)", False: " (not exact)"}
    return _percent(talker.wer) + exact[talker.exact]


def summary_lines(record: SummaryRecord) -> list[str]:
    """Say what came of the demo: captions, servers, then a line for each talker."""
    first = record.first_caption_s
    request = record.transcribe_http_ms
    return [
        f"{record.captions} captions, {record.finals} final, "
        f"{_percent(record.wer)} word errors; "
        f"first caption after {'-' if first is None else f'{first:.1f} s'}",
        f"{record.signaling} signaling server {record.hpb_version}, "
        f"recogniser {record.backend}; "
        f"switched on in {'-' if request is None else f'{request:.0f} ms'}",
        *(
            f"{talker.speaker}: {talker.finals} finals, "
            f"{word_errors(talker)} word errors"
            for talker in record.talkers
        ),
    ]
