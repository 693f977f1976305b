# SPDX-License-Identifier: MIT
"""Where captions appear: a live terminal, plain lines, or JSON Lines."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import Protocol, TextIO

from attrs import asdict, frozen
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..events import Final, Gap, LanguageMismatch, Partial, SessionEvent, StateChanged
from ..subtitles import caption_line
from ._failures import warn

__all__ = ["Screen", "Status", "choose_screen", "event_line", "visible"]

LONG_FILE_S = 20.0
"""From this length on a file gets a progress bar."""

NAMES = {
    "StateChanged": "state",
    "SpeechStarted": "speech_started",
    "LanguageMismatch": "language_mismatch",
}


@frozen(kw_only=True)
class Status:
    """Where the transcription stands."""

    backend: str = ""
    state: str = "connecting"
    position_s: float = 0.0
    duration_s: float | None = None
    lag_s: float | None = None


class Screen(Protocol):
    """A place for captions; `with` it."""

    def __enter__(self) -> Screen: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, event: SessionEvent, at: float) -> None:
        """Show what happened, `at` seconds after the start."""

    def tick(self, status: Status) -> None:
        """Show how it goes; called some times a second."""

    def warn(self, text: str) -> None:
        """Show a warning."""


def visible(text: str) -> str:
    """Make text safe for a terminal: no control and no direction characters."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(c) in ("Cc", "Cs")
        or c in "\u202a\u202b\u202c\u202d\u202e"
        or "\u2066" <= c <= "\u2069"
        else c
        for c in text
    )


def event_line(event: SessionEvent, at: float) -> str:
    """Write any event as a line of JSON; captions as `caption_line` does."""
    if isinstance(event, Partial | Final):
        return caption_line(event, at)
    kind = type(event).__name__
    record = {"emission_time": round(at, 3), "event": NAMES.get(kind, kind.lower())}
    return json.dumps(record | asdict(event), ensure_ascii=False)


class _Quiet:
    """Only what goes to standard error: warnings and, in a terminal, a bar."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def __enter__(self) -> _Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, event: SessionEvent, at: float) -> None:
        """Write nothing."""

    def tick(self, status: Status) -> None:
        if status.duration_s is None or status.duration_s < LONG_FILE_S:
            return
        if self._progress is None:
            console = Console(stderr=True)
            if not console.is_terminal or console.is_dumb_terminal:
                return
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeRemainingColumn(),
                console=console,
                auto_refresh=False,
                transient=True,
            )
            self._progress.add_task("transcribing", total=status.duration_s)
            self._progress.start()
        self._progress.update(
            self._progress.task_ids[0], completed=status.position_s, refresh=True
        )

    def warn(self, text: str) -> None:
        if self._progress is not None:
            self._progress.console.print(
                f"kyutai-stream: {visible(text)}", markup=False, highlight=False
            )
        else:
            warn(text)


class _JsonLines(_Quiet):
    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out

    def show(self, event: SessionEvent, at: float) -> None:
        self._out.write(event_line(event, at) + "\n")
        self._out.flush()


class _PlainLines(_Quiet):
    """`>>` before words so far, `##` before a final, as Riva's clients do."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out

    def show(self, event: SessionEvent, at: float) -> None:
        if not isinstance(event, Partial | Final):
            return
        mark = "##" if isinstance(event, Final) else ">>"
        self._out.write(f"{mark} {visible(event.text)}\n")
        self._out.flush()


class _LiveCaptions:
    """Finals scroll up; below them the words so far, dim, and a line of state."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tail = ""
        self._status = Status()
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> _LiveCaptions:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, event: SessionEvent, at: float) -> None:
        match event:
            case Partial():
                self._tail = event.text
            case Final():
                # Printing redraws what is below, which must not be the same words.
                self._tail = ""
                self._draw()
                self._console.print(Text(visible(event.text)))
            case _:
                return
        self._draw()

    def tick(self, status: Status) -> None:
        self._status = status
        self._draw()

    def warn(self, text: str) -> None:
        if sys.stderr.isatty():
            self._console.print(Text(f"kyutai-stream: {visible(text)}", style="yellow"))
        else:
            warn(text)

    def _draw(self) -> None:
        tail = Text(visible(self._tail), style="dim")
        state = Text(_status_text(self._status), style="dim reverse")
        shown = Group(tail, state) if self._tail else state
        self._live.update(shown, refresh=True)


def _status_text(status: Status) -> str:
    where = _clock(status.position_s)
    if status.duration_s:
        share = min(1.0, status.position_s / status.duration_s)
        where = f"{where} / {_clock(status.duration_s)} ({share:.0%})"
    parts = [status.state, status.backend, where]
    if status.lag_s is not None:
        parts.append(f"lag {status.lag_s:.1f} s")
    return " " + " · ".join(part for part in parts if part) + " "


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def choose_screen(*, as_json: bool, plain: bool) -> Screen:
    """Choose by what standard output is.

    A terminal gets live captions, or plain lines with `NO_COLOR` or a dumb one;
    anything else gets JSON Lines.

    Args:
        as_json: JSON Lines in any case.
        plain: Plain lines in any case.
    """
    console = Console()
    if plain:
        return _PlainLines(sys.stdout)
    if as_json or not console.is_terminal:
        return _JsonLines(sys.stdout)
    if console.no_color or console.is_dumb_terminal:
        return _PlainLines(sys.stdout)
    return _LiveCaptions(console)


def warning_of(event: SessionEvent) -> str | None:
    """The warning an event deserves; None for those that are no trouble."""
    match event:
        case Gap():
            lost = event.end - event.start
            return (
                f"gap: {lost:.2f} s from {event.start:.2f} s on were not transcribed"
                f" ({event.reason})"
            )
        case LanguageMismatch():
            return (
                f"the words seem to be {event.detected}, not {event.expected},"
                f" at {event.at:.1f} s"
            )
        case StateChanged(state="reconnecting"):
            return f"connection lost, connecting again: {event.detail}"
    return None
