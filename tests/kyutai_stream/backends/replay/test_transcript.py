from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.backends.replay._transcript import (
    TranscriptLine,
    checked,
    load,
    parse,
    words_of,
)
from kyutai_stream.errors import ConfigError


def test_a_line_is_text_and_times() -> None:
    text = '{"text": "Good morning.", "start": 1, "end": 2.0, "extra": []}\n\n'
    text += '{"text": "Yes", "start": 3, "speaker": "ann"}'
    assert parse(text) == (
        TranscriptLine(text="Good morning.", start=1.0, end=2.0),
        TranscriptLine(text="Yes", start=3.0, speaker="ann"),
    )


def test_a_file_and_lines_in_code_are_the_same(tmp_path: Path) -> None:
    rows = [{"text": "one", "start": 0.5}, {"text": "two", "start": 1, "end": 1.5}]
    path = tmp_path / "words.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert load(path) == load(str(path)) == checked(rows)
    assert checked(load(path)) == load(path)


@pytest.mark.parametrize(
    "row",
    [
        "no json",
        "[1]",
        "7",
        "null",
        "{}",
        '{"text": 3, "start": 0}',
        '{"text": "a"}',
        '{"text": "a", "start": "0"}',
        '{"text": "a", "start": true}',
        '{"text": "a", "start": -1}',
        '{"text": "a", "start": NaN}',
        '{"text": "a", "start": Infinity}',
        '{"text": "a", "start": 1' + "0" * 400 + "}",
        '{"text": "a", "start": 2, "end": 1}',
        '{"text": "a", "start": 2, "end": "later"}',
        '{"text": "a", "start": 2, "speaker": 1}',
        "[" * 100_000,
    ],
)
def test_a_malformed_line_is_named_by_its_number(row: str) -> None:
    good = '{"text": "fine", "start": 0}'
    with pytest.raises(ConfigError, match="line 2") as raised:
        parse(f"{good}\n{row}\n{good}")
    assert "fine" not in str(raised.value)


@given(st.text())
def test_any_text_is_a_transcript_or_a_config_error(text: str) -> None:
    try:
        lines = parse(text)
    except ConfigError:
        return
    words_of(lines, "")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
FIELDS = st.sampled_from(["text", "start", "end", "speaker", "x"])


@given(st.dictionaries(FIELDS, JSON))
def test_any_object_is_a_line_or_a_config_error(row: dict[str, object]) -> None:
    try:
        lines = parse(json.dumps(row))
    except ConfigError:
        return
    starts = [word.start for word in words_of(lines, "")]
    assert starts == sorted(starts)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.jsonl"):
        load(tmp_path / "absent.jsonl")
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="cannot read"):
        load(bad)
    with pytest.raises(ConfigError, match="cannot read"):
        load("nul\0")


def test_the_words_of_a_line_share_its_time() -> None:
    line = TranscriptLine(text=" we  are\tready ", start=1.0, end=4.0)
    words = words_of([line], "")
    assert [word.text for word in words] == ["we", "are", "ready"]
    assert [word.start for word in words] == pytest.approx([1.0, 2.0, 3.0])
    assert [word.due for word in words] == pytest.approx([2.0, 3.0, 4.0])


def test_words_without_an_end_are_due_at_once() -> None:
    (first, second) = words_of([TranscriptLine(text="so be", start=2.0)], "")
    assert (first.start, first.end, first.due) == (2.0, None, 2.0)
    assert (second.start, second.end, second.due) == (2.0, None, 2.0)


def test_a_speaker_hears_her_own_lines_and_those_for_all() -> None:
    lines = [
        TranscriptLine(text="late", start=2.0),
        TranscriptLine(text="mine", start=1.0, speaker="ann"),
        TranscriptLine(text="his", start=0.0, speaker="bob"),
        TranscriptLine(text=" ", start=0.0),
    ]
    assert [word.text for word in words_of(lines, "ann")] == ["mine", "late"]
