# SPDX-License-Identifier: AGPL-3.0-or-later
"""How the demo shows itself: live terminal, append-only text, or JSON Lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TextIO

from attrs import frozen
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .report import CaptionRecord, SummaryRecord, TalkerScore

__all__ = [
    "DemoStatus",
    "JsonOutput",
    "Output",
    "PlainOutput",
    "Progress",
    "TerminalOutput",
    "choose_output",
]

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


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

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""

    def status(self, status: DemoStatus) -> None:
        """Show what runs; called when captions can come, again when it changes."""

    def caption(self, record: CaptionRecord) -> None:
        """Show one caption."""

    def summary(self, record: SummaryRecord) -> None:
        """Show the result; nothing is shown after it but errors."""

    def error(self, text: str) -> None:
        """Say in plain words what went wrong; always on stderr."""


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

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def step(self, text: str) -> None:
        """Print the step to stderr."""
        _print(self._stderr, f"… {text}")

    def status(self, status: DemoStatus) -> None:
        """Print what runs to stderr, one fact a line."""
        _print(self._stderr, f"= {status.servers()}; {status.recogniser()}")
        if status.page_url is not None:
            _print(self._stderr, f"= captions in the browser: {status.page_url}")

    def caption(self, record: CaptionRecord) -> None:
        """Print the caption to stdout."""
        mark = "##" if record.final else ">>"
        _print(self._stdout, f"{mark} {record.speaker}: {record.text}")

    def summary(self, record: SummaryRecord) -> None:
        """Print the result to stdout."""
        for line in _summary_lines(record):
            _print(self._stdout, f"= {line}")

    def error(self, text: str) -> None:
        """Print the text to stderr."""
        _print(self._stderr, f"error: {text}")


class JsonOutput(PlainOutput):
    """JSON Lines on stdout and nothing else there; the rest is text on stderr."""

    def caption(self, record: CaptionRecord) -> None:
        """Print the record as one line of JSON."""
        _print(self._stdout, record.to_json())

    def summary(self, record: SummaryRecord) -> None:
        """Print the record as the last line of JSON."""
        _print(self._stdout, record.to_json())


class TerminalOutput:
    """A live view: finals scroll by, tentative text and the status line stay below.

    Args:
        console: A terminal's console.
        stderr: Where errors go.
        clock: Monotonic seconds, for the duration of the steps.
    """

    def __init__(
        self,
        console: Console,
        *,
        stderr: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._stderr = stderr
        self._clock = clock
        self._step: tuple[str, float] | None = None
        self._tentative: dict[str, str] = {}
        self._colours: dict[str, str] = {}
        self._last_speaker: str | None = None
        self._status: DemoStatus | None = None
        self._first_t: float | None = None
        self._live = Live(
            console=console,
            get_renderable=self._render,
            # rich's refreshing thread can move the cursor between two prints of ours
            # and wipe captions (seen with rich 15.0): every change refreshes itself.
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def step(self, text: str) -> None:
        """Tick off the step before and show this one as going on."""
        self._end_step()
        self._step = (text, self._clock())
        self._live.refresh()

    def status(self, status: DemoStatus) -> None:
        """Show the facts once above the captions, then in the status line."""
        self._end_step()
        first = self._status is None
        self._status = status
        if first:
            self._console.print()
            if status.page_url is not None:
                self._console.print(
                    Text("Captions in the browser: ").append(
                        status.page_url, style="underline"
                    )
                )
            self._console.print(
                Text("Captions are automatic and can be wrong.", style="dim")
            )
        self._live.refresh()

    def caption(self, record: CaptionRecord) -> None:
        """Keep tentative text in the live part; let a final scroll by."""
        if record.t is not None and (self._first_t is None or record.t < self._first_t):
            self._first_t = record.t
        if record.final:
            self._tentative.pop(record.speaker, None)
            if record.speaker != self._last_speaker:
                self._console.print()
            self._console.print(self._line(record.speaker, Text(record.text)))
            self._last_speaker = record.speaker
        else:
            self._tentative[record.speaker] = record.text
        self._live.refresh()

    def summary(self, record: SummaryRecord) -> None:
        """Show the result as a small table below the captions."""
        self._end_step()
        self._tentative.clear()
        self._status = None
        self._live.refresh()
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        table.add_column("speaker")
        table.add_column("finals", justify="right")
        table.add_column("word errors", justify="right")
        for talker in record.talkers:
            name = Text(talker.speaker, style=self._colour(talker.speaker))
            table.add_row(name, str(talker.finals), _word_errors(talker))
        self._console.print()
        self._console.print(table)
        for line in _summary_lines(record)[:2]:
            self._console.print(Text(line, style="dim"))

    def error(self, text: str) -> None:
        """Print the text to stderr, below the captions."""
        self._live.stop()
        _print(self._stderr, f"error: {text}")

    def _end_step(self) -> None:
        if self._step is not None:
            text, begun = self._step
            self._step = None
            done = Text("✓ ", style="green").append(text, style="default")
            done.append(f"  {self._clock() - begun:.1f} s", style="dim")
            self._console.print(done)

    def _colour(self, speaker: str) -> str:
        if speaker not in self._colours:
            self._colours[speaker] = _COLOURS[len(self._colours) % len(_COLOURS)]
        return self._colours[speaker]

    def _line(self, speaker: str, text: Text) -> RenderableType:
        # A table keeps wrapped lines of the text out of the column of the names.
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=min(20, max(10, self._console.width // 5)), no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_row(Text(speaker, style=f"bold {self._colour(speaker)}"), text)
        return grid

    def _render(self) -> RenderableType:
        """The part that stays below what scrolls by."""
        parts: list[RenderableType] = [
            self._line(speaker, Text(text, style="dim"))
            for speaker, text in self._tentative.items()
        ]
        step, status = self._step, self._status
        if step is not None:
            parts.append(Text("… ", style="cyan").append(step[0], style="default"))
        if status is not None:
            facts = [
                f"{status.signaling} HPB {status.hpb_version}",
                status.recogniser(),
            ]
            if self._first_t is not None:
                facts.append(f"first after {self._first_t:.1f} s")
            line = Text(" · ".join(facts), style="reverse", no_wrap=True)
            line.truncate(self._console.width, overflow="ellipsis")
            parts += [Text(), line]
        return Group(*parts)


def choose_output(
    *, as_json: bool, stdout: TextIO, stderr: TextIO, no_color: bool
) -> Output:
    """Pick the view that fits where the output goes.

    Args:
        as_json: Whether JSON Lines were asked for.
        stdout: Standard output.
        stderr: Standard error.
        no_color: Whether the user's NO_COLOR is set: append-only text then.
    """
    if as_json:
        return JsonOutput(stdout=stdout, stderr=stderr)
    if no_color or not stdout.isatty():
        return PlainOutput(stdout=stdout, stderr=stderr)
    console = Console(file=stdout, highlight=False, markup=False)
    if console.is_dumb_terminal:
        return PlainOutput(stdout=stdout, stderr=stderr)
    return TerminalOutput(console, stderr=stderr)


def _print(stream: TextIO, line: str) -> None:
    stream.write(line + "\n")
    # A reader at the other end of a pipe sees captions when they come.
    stream.flush()


def _percent(rate: float | None) -> str:
    return "unknown" if rate is None else f"{rate:.1%}"


def _word_errors(talker: TalkerScore) -> str:
    exact = {None: "", True: " (exact)", False: " (not exact)"}
    return _percent(talker.wer) + exact[talker.exact]


def _summary_lines(record: SummaryRecord) -> list[str]:
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
            f"{_word_errors(talker)} word errors"
            for talker in record.talkers
        ),
    ]
