# SPDX-License-Identifier: AGPL-3.0-or-later
"""The demo as a live view in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .output import DemoStatus, print_line, summary_lines, word_errors
from .report import CaptionRecord, SummaryRecord

__all__ = ["TerminalOutput"]

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


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

    def __exit__(self, *exc_info: object) -> None:
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
            table.add_row(name, str(talker.finals), word_errors(talker))
        self._console.print()
        self._console.print(table)
        for line in summary_lines(record)[:2]:
            self._console.print(Text(line, style="dim"))

    def error(self, text: str) -> None:
        """Print the text to stderr, below the captions."""
        self._live.stop()
        print_line(self._stderr, f"error: {text}")

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
