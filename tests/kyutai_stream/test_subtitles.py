"""Finals become subtitles that can be read and lose nothing."""

from __future__ import annotations

import html
import itertools
import json
import sys
from pathlib import Path

import pysubs2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyutai_stream import BackendUnavailable, ConfigError, Final, FinalReason, Partial
from kyutai_stream.subtitles import (
    Cue,
    CueRules,
    TimedWord,
    caption_line,
    format_of,
    make_cues,
    render_srt,
    render_text,
    render_vtt,
    timed_words,
    write_subtitles,
)

RULES = CueRules()


def final(text: str, start: float, end: float, segment_id: int = 0) -> Final:
    return Final(
        segment_id=segment_id,
        text=text,
        start=start,
        end=end,
        reason=FinalReason.SILENCE,
    )


plain_words = st.text(st.sampled_from("abcdefghij.,"), min_size=1, max_size=14)
odd_words = st.one_of(
    st.text(
        st.characters(exclude_categories=["C", "Z"], exclude_characters="\u2060"),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from(["-->", "<b>", "{\\p1}", "\\N", "\\n", "&amp;", "1", "C:\\new"]),
)


@st.composite
def speech(
    draw: st.DrawFn, words: st.SearchStrategy[str] = plain_words, most: int = 6
) -> list[Final]:
    """Finals in order; now and then too fast, overlapping or endless."""
    at = 0.0
    finals = []
    for n in range(draw(st.integers(0, most))):
        text = " ".join(draw(st.lists(words, max_size=14)))
        lasting = draw(st.floats(0, 12))
        finals.append(final(text, at, at + lasting, n))
        at += draw(st.floats(0, 1.2)) * lasting + draw(st.floats(0, 2))
    return finals


def spoken(finals: list[Final]) -> list[str]:
    return [word for one in finals for word in one.text.split()]


def ms(cue: Cue) -> int:
    return round(cue.end * 1000) - round(cue.start * 1000)


def broken(chars: int, lasting_ms: int) -> int:
    """How many of the two best-effort rules this cue breaks."""
    slow_enough = chars * 1000 <= RULES.most_chars_per_s * lasting_ms
    return (lasting_ms < RULES.least_s * 1000) + (not slow_enough)


def fewest_broken(words: list[TimedWord]) -> int:
    """Fewest broken rules of all ways to divide the words, by trying them all."""
    best = sys.maxsize
    for cuts in itertools.product((False, True), repeat=len(words) - 1):
        edges = [0, *(n + 1 for n, cut in enumerate(cuts) if cut), len(words)]
        count = 0
        for first, after in itertools.pairwise(edges):
            part = words[first:after]
            text = " ".join(word.text for word in part)
            said = part[-1].end_ms - part[0].start_ms
            if len(part) > 1 and (not two_lines(part) or said > 7000):
                break
            room = (
                words[after].start_ms - part[0].start_ms if after < len(words) else 7000
            )
            count += broken(len(text), min(room, 7000))
        else:
            best = min(best, count)
    return best


def two_lines(part: list[TimedWord]) -> bool:
    texts = [word.text for word in part]
    splits = (
        (" ".join(texts[:n]), " ".join(texts[n:])) for n in range(1, len(texts) + 1)
    )
    return any(len(a) <= 42 and len(b) <= 42 for a, b in splits)


class TestRules:
    @given(speech(odd_words))
    def test_no_word_is_lost_or_moved(self, finals: list[Final]) -> None:
        cues = make_cues(finals)
        assert [word for cue in cues for word in cue.text.split()] == spoken(finals)

    @given(speech())
    def test_what_always_holds(self, finals: list[Final]) -> None:
        cues = make_cues(finals)
        for cue in cues:
            assert 1 <= len(cue.lines) <= 2
            for line in cue.lines:
                assert line == " ".join(line.split())
                assert len(line) <= 42 or (len(cue.lines) == 1 and " " not in line)
            assert 1 <= ms(cue) <= 7000
        for before, after in itertools.pairwise(cues):
            assert before.start < before.end <= after.start

    @given(speech(odd_words))
    def test_longer_words_stand_alone(self, finals: list[Final]) -> None:
        for cue in make_cues(finals):
            for line in cue.lines:
                assert len(line) <= 42 or cue.text.split() == [line]

    @settings(deadline=None)
    @given(speech(most=3).filter(lambda finals: len(spoken(finals)) <= 9))
    def test_the_rest_holds_or_is_impossible(self, finals: list[Final]) -> None:
        words = timed_words(finals)
        if not words:
            assert make_cues(finals) == []
            return
        count = sum(broken(len(cue.text), ms(cue)) for cue in make_cues(finals))
        assert count == fewest_broken(words)

    @given(speech())
    def test_speech_of_readable_pace_breaks_nothing_within_a_final(
        self, finals: list[Final]
    ) -> None:
        # One final with nothing after it: there is always room.
        for one in finals:
            for cue in make_cues([one]):
                assert len(cue.text) * 1000 <= 20 * ms(cue) + 20 or ms(cue) == 7000

    @given(speech())
    def test_cues_begin_with_what_is_said(self, finals: list[Final]) -> None:
        starts = {word.start_ms for word in timed_words(finals)}
        assert {round(cue.start * 1000) for cue in make_cues(finals)} <= starts


class TestTimes:
    def test_words_are_spread_by_length(self) -> None:
        words = timed_words([final("ab abcdefg ab", 10.0, 11.4)])
        assert [word.start_ms for word in words] == [10_000, 10_300, 11_100]
        assert words[-1].end_ms == 11_400

    def test_fast_speech_uses_the_pause_after_it(self) -> None:
        fast = final("x" * 34, 0.0, 0.5)
        (word,) = timed_words([fast])
        assert word.end_ms == 2000
        words = timed_words([fast, final("y", 1.2, 1.4, 1)])
        assert words[0].end_ms == 1200
        assert words[1].start_ms == 1200

    def test_finals_at_the_same_time_stay_in_order(self) -> None:
        finals = [final("one two", 5.0, 5.0, n) for n in range(9)]
        starts = [word.start_ms for word in timed_words(finals)]
        assert starts == sorted(set(starts))
        assert len(make_cues(finals)) >= 1

    def test_a_final_without_words_is_nothing(self) -> None:
        assert make_cues([final("  ", 0.0, 1.0)]) == []


class TestTaste:
    def test_a_sentence_is_a_cue(self) -> None:
        finals = [
            final("Good morning everybody.", 0.0, 1.5, 0),
            final("Shall we begin?", 2.0, 3.2, 1),
        ]
        assert [cue.text for cue in make_cues(finals)] == [one.text for one in finals]

    def test_a_short_answer_joins_its_neighbour(self) -> None:
        finals = [final("Yes.", 0.0, 0.3, 0), final("We begin now.", 0.4, 1.6, 1)]
        (cue,) = make_cues(finals)
        assert cue.text == "Yes. We begin now."

    def test_long_text_breaks_at_sentences_and_clauses(self) -> None:
        text = (
            "The new version is ready. When it has been tested by all of you,"
            " we will hand it to the customer, who has waited for a year."
        )
        cues = make_cues([final(text, 0.0, 9.0)])
        assert all(cue.text.endswith((".", ",")) for cue in cues)
        assert len(cues) in (2, 3)

    def test_two_lines_are_of_about_the_same_length(self) -> None:
        text = "one two three four five six seven eight nine ten eleven"
        (cue,) = make_cues([final(text, 0.0, 5.0)])
        first, second = cue.lines
        assert abs(len(first) - len(second)) <= 6

    def test_other_rules(self) -> None:
        rules = CueRules(line_chars=20, lines=1, most_s=2.0)
        text = "one two three four five six seven eight nine ten eleven"
        for cue in make_cues([final(text, 0.0, 5.0)], rules):
            assert len(cue.lines) == 1
            assert len(cue.lines[0]) <= 20
            assert ms(cue) <= 2000

    def test_an_hour_is_quick(self) -> None:
        finals = [
            final(
                "some words of a sentence that goes on for a while.",
                4.0 * n,
                4.0 * n + 3,
                n,
            )
            for n in range(900)
        ]
        assert len(make_cues(finals)) >= 900


def blocks(rendered: str) -> list[list[str]]:
    return [part.split("\n") for part in rendered.strip().split("\n\n")]


def read_back(rendered: str, skip: int) -> list[str]:
    """The words of each cue, by the plainest of readers."""
    words: list[str] = []
    for part in blocks(rendered)[skip:]:
        assert part[0].isdigit()
        assert " --> " in part[1]
        assert not any("-->" in line for line in part[2:])
        words += " ".join(part[2:]).replace("\u2060", "").split()
    return words


class TestFormats:
    @given(speech(odd_words, most=3))
    def test_srt_loses_nothing(self, finals: list[Final]) -> None:
        if spoken(finals):
            assert read_back(render_srt(make_cues(finals)), 0) == spoken(finals)

    @given(speech(odd_words, most=3))
    def test_vtt_loses_nothing(self, finals: list[Final]) -> None:
        rendered = render_vtt(make_cues(finals))
        assert rendered.startswith("WEBVTT\n\n")
        if spoken(finals):
            assert not any(
                ">" in line for part in blocks(rendered)[1:] for line in part[2:]
            )
            words = [html.unescape(word) for word in read_back(rendered, 1)]
            assert words == spoken(finals)

    @given(speech(most=4))
    def test_pysubs2_reads_what_it_wrote(self, finals: list[Final]) -> None:
        cues = make_cues(finals)
        for kind, rendered in (("srt", render_srt(cues)), ("vtt", render_vtt(cues))):
            file = pysubs2.SSAFile.from_string(rendered, format_=kind)
            assert [(one.start, one.end) for one in file] == [
                (round(cue.start * 1000), round(cue.end * 1000)) for cue in cues
            ]

    def test_srt(self) -> None:
        cue = Cue(start=3661.5, end=3663.0, lines=("Hello,", "you & <i>you</i>."))
        assert render_srt([cue]).strip() == (
            "1\n01:01:01,500 --> 01:01:03,000\nHello,\nyou & <\u2060i>you<\u2060/i>."
        )

    def test_vtt_with_a_voice(self) -> None:
        cue = Cue(start=0.0, end=1.0, lines=("a < b", "c"))
        rendered = render_vtt([cue], speaker="Ada <L>\n& co")
        assert rendered.strip() == (
            "WEBVTT\n\n1\n00:00:00.000 --> 00:00:01.000\n"
            "<v Ada &lt;L&gt; &amp; co>a &lt; b\nc"
        )

    def test_text(self) -> None:
        finals = [final("One.", 0, 1), final("Two  words.", 2, 3)]
        assert render_text(finals) == "One.\nTwo words.\n"

    def test_json_lines(self) -> None:
        partial = Partial(segment_id=3, text="Où", start=1.23456)
        assert json.loads(caption_line(partial, 2.0)) == {
            "emission_time": 2.0,
            "start": 1.235,
            "end": None,
            "text": "Où",
            "is_final": False,
            "segment": 3,
        }
        assert json.loads(caption_line(final("x", 1.0, 2.0, 4), 2.5)) == {
            "emission_time": 2.5,
            "start": 1.0,
            "end": 2.0,
            "text": "x",
            "is_final": True,
            "segment": 4,
            "reason": "silence",
        }


class TestFiles:
    @pytest.mark.parametrize("ending", ["srt", "vtt", "jsonl", "txt", "SRT"])
    def test_the_ending_decides(self, ending: str, tmp_path: Path) -> None:
        path = tmp_path / f"out.{ending}"
        path.write_text("old")
        write_subtitles(path, [(final("Hello you.", 0.0, 1.0), 1.5)])
        text = path.read_text(encoding="utf-8")
        assert "Hello you." in text
        assert "old" not in text
        assert list(tmp_path.iterdir()) == [path]
        assert (ending == "jsonl") == ('"emission_time": 1.5' in text)

    def test_no_words_are_an_empty_file(self, tmp_path: Path) -> None:
        for ending in ("srt", "vtt", "jsonl", "txt"):
            write_subtitles(tmp_path / f"out.{ending}", [])
        assert (tmp_path / "out.vtt").read_text().strip() == "WEBVTT"
        assert (tmp_path / "out.srt").read_text() == ""

    @pytest.mark.parametrize("name", ["out", "out.ass", "srt"])
    def test_other_endings_are_refused(self, name: str) -> None:
        with pytest.raises(ConfigError, match=r"\.srt, \.vtt, \.jsonl, \.txt"):
            format_of(name)

    def test_without_pysubs2(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pysubs2", None)
        with pytest.raises(BackendUnavailable, match=r"kyutai-stream\[cli\]"):
            write_subtitles(tmp_path / "out.srt", [])
        assert list(tmp_path.iterdir()) == []
        write_subtitles(tmp_path / "out.txt", [])
