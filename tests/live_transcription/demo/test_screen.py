# SPDX-License-Identifier: AGPL-3.0-or-later
from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from live_transcription.demo.output import DemoStatus, Output
from live_transcription.demo.plain import JsonOutput, PlainOutput
from live_transcription.demo.report import CaptionRecord, SummaryRecord, TalkerScore
from live_transcription.demo.screen import choose_output
from live_transcription.demo.terminal import TerminalOutput

STATUS = DemoStatus(
    signaling="real",
    hpb_version="2.0.2",
    backend="pocketsphinx",
    page_url="http://127.0.0.1:1234",
)
SUMMARY = SummaryRecord(
    signaling="real",
    hpb_version="2.0.2",
    backend="pocketsphinx",
    captions=7,
    finals=2,
    wer=0.05,
    first_caption_s=1.25,
    transcribe_http_ms=31.2,
    talkers=(
        TalkerScore(speaker="Alice", wer=0.05, finals=2),
        TalkerScore(speaker="Ben", wer=None, finals=0),
    ),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def caption(text: str, *, speaker: str = "Alice", final: bool = False) -> CaptionRecord:
    return CaptionRecord(speaker=speaker, text=text, final=final, lang="en", t=1.25)


def whole_run(output: Output) -> None:
    with output:
        output.step("starting signaling server")
        output.step("starting talkers")
        output.status(STATUS)
        output.caption(caption("good mor"))
        output.caption(caption("good morning", final=True))
        output.caption(caption("hello [bold]", speaker="Ben"))
        output.summary(SUMMARY)
        output.error("Ben got no caption")


class TestChoice:
    def test_json_wins_over_the_terminal(self) -> None:
        chosen = choose_output(
            as_json=True, stdout=Terminal(), stderr=io.StringIO(), no_color=False
        )
        assert type(chosen) is JsonOutput

    @pytest.mark.parametrize("stdout", [io.StringIO(), Terminal()])
    def test_plain_without_terminal_or_colour(self, stdout: io.StringIO) -> None:
        chosen = choose_output(
            as_json=False, stdout=stdout, stderr=io.StringIO(), no_color=True
        )
        assert type(chosen) is PlainOutput

    def test_plain_into_a_pipe(self) -> None:
        chosen = choose_output(
            as_json=False, stdout=io.StringIO(), stderr=io.StringIO(), no_color=False
        )
        assert type(chosen) is PlainOutput

    def test_live_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")
        chosen = choose_output(
            as_json=False, stdout=Terminal(), stderr=io.StringIO(), no_color=False
        )
        assert type(chosen) is TerminalOutput

    def test_plain_on_a_dumb_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "dumb")
        chosen = choose_output(
            as_json=False, stdout=Terminal(), stderr=io.StringIO(), no_color=False
        )
        assert type(chosen) is PlainOutput


class TestPlain:
    def test_appends_marked_lines(self) -> None:
        stdout, stderr = io.StringIO(), io.StringIO()
        whole_run(PlainOutput(stdout=stdout, stderr=stderr))
        lines = stdout.getvalue().splitlines()
        assert lines[:3] == [
            ">> Alice: good mor",
            "## Alice: good morning",
            ">> Ben: hello [bold]",
        ]
        assert "= Alice: 2 finals, 5.0% word errors" in lines
        assert "= Ben: 0 finals, unknown word errors" in lines
        assert "\x1b" not in stdout.getvalue() + stderr.getvalue()

    def test_progress_status_and_errors_go_to_stderr(self) -> None:
        stdout, stderr = io.StringIO(), io.StringIO()
        whole_run(PlainOutput(stdout=stdout, stderr=stderr))
        assert stderr.getvalue().splitlines() == [
            "… starting signaling server",
            "… starting talkers",
            f"= real signaling server 2.0.2; {STATUS.recogniser()}",
            "= captions in the browser: http://127.0.0.1:1234",
            "error: Ben got no caption",
        ]


class TestJson:
    def test_stdout_carries_json_lines_only(self) -> None:
        stdout, stderr = io.StringIO(), io.StringIO()
        whole_run(JsonOutput(stdout=stdout, stderr=stderr))
        records = [json.loads(line) for line in stdout.getvalue().splitlines()]
        assert [record["type"] for record in records] == [*["caption"] * 3, "summary"]
        assert "starting talkers" in stderr.getvalue()
        assert "error: Ben got no caption" in stderr.getvalue()


class TestTerminal:
    def run(self) -> tuple[str, str]:
        stdout, stderr = Terminal(), io.StringIO()
        console = Console(
            file=stdout,
            force_terminal=True,
            color_system="standard",
            width=100,
            height=30,
            highlight=False,
            markup=False,
        )
        whole_run(TerminalOutput(console, stderr=stderr, clock=lambda: 0.0))
        return stdout.getvalue(), stderr.getvalue()

    def test_steps_are_ticked_off(self) -> None:
        shown, _ = self.run()
        assert "✓ " in shown
        assert shown.index("starting signaling server") < shown.index("starting talk")

    def test_tentative_is_dim_and_final_is_not(self) -> None:
        shown, _ = self.run()
        assert "\x1b[2mgood mor\x1b[0m" in shown
        assert "\x1b[2mgood morning" not in shown
        assert "good morning" in shown

    def test_speakers_have_colours_of_their_own(self) -> None:
        shown, _ = self.run()
        assert "\x1b[1;36mAlice" in shown
        assert "\x1b[1;35mBen" in shown

    def test_status_line_says_what_runs(self) -> None:
        shown, _ = self.run()
        assert (
            "real HPB 2.0.2 · demo recogniser: pocketsphinx, low accuracy"
            " · first after 1.2 s"
        ) in shown
        assert "http://127.0.0.1:1234" in shown
        assert "automatic" in shown

    def test_text_is_never_taken_for_markup(self) -> None:
        assert "hello [bold]" in self.run()[0]

    def test_errors_go_to_stderr(self) -> None:
        shown, errors = self.run()
        assert errors == "error: Ben got no caption\n"
        assert "Ben got no caption" not in shown

    def test_cursor_is_shown_again(self) -> None:
        shown, _ = self.run()
        assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


class TestStatus:
    def test_other_recognisers_carry_their_note(self) -> None:
        status = DemoStatus(
            signaling="embedded",
            hpb_version="1",
            backend="activity",
            note="marks speech, recognises nothing",
        )
        assert status.recogniser() == (
            "recogniser: activity, marks speech, recognises nothing"
        )
