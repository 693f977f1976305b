"""Cassettes as files: what is written comes back, anything else is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.testing.cassettes import Cassette, CassetteError, Entry, Header

HEADER = Header(server="ws://127.0.0.1/v1/stream")


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    entries = (
        Entry(t=0.5, dir="client", kind="binary", size=4, data=b"\x00\x01\x02\x03"),
        Entry(t=0.6, dir="client", kind="binary", size=9000, sha256="ab" * 32),
        Entry(t=0.7, dir="server", kind="text", text="é\u2028\n"),
        Entry(t=0.8, dir="server", kind="refused", status=429, headers={"a": "b"}),
        Entry(t=0.9, dir="client", kind="close", code=4000, reason="x"),
    )
    cassette = Cassette(header=HEADER, entries=entries)
    cassette.save(tmp_path / "c.jsonl")
    assert Cassette.load(tmp_path / "c.jsonl") == cassette
    assert "é" not in repr(cassette)


def test_unknown_fields_and_kinds_are_ignored() -> None:
    cassette = Cassette.parse(
        [
            '{"cassette": 1, "server": "ws://x", "mood": "good"}',
            "",
            '{"t": 1, "dir": "client", "kind": "smell"}',
            '{"t": 1, "dir": "client", "kind": "text", "text": "a", "x": 1}',
        ]
    )
    assert [entry.text for entry in cassette.entries] == ["a"]


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "line 1: no header"),
        (["hello"], "line 1: no JSON object"),
        (['{"t": 1}'], "line 1: no header"),
        (['{"cassette": 2}'], "version 1 is needed"),
        (['{"cassette": 1, "audio": "loud"}'], "audio is neither"),
        (['{"cassette": 1, "server": 5}'], "line 1: server has a wrong type"),
        (['{"cassette": 1}', '{"kind": "text", "dir": "up"}'], "line 2: dir"),
        (
            ['{"cassette": 1}', '{"kind": "binary", "dir": "client", "data": "?"}'],
            "line 2: data is no base64",
        ),
        (
            ['{"cassette": 1}', '{"kind": "close", "dir": "client", "code": true}'],
            "line 2: code has a wrong type",
        ),
    ],
)
def test_what_is_no_cassette_is_told_with_its_line(
    lines: list[str], complaint: str
) -> None:
    with pytest.raises(CassetteError, match=complaint):
        Cassette.parse(lines)


def test_binary_files_are_no_cassettes(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_bytes(np.arange(100, dtype="<f4").tobytes() + b"\xff")
    with pytest.raises(CassetteError):
        Cassette.load(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["cassette", "t", "dir", "kind", "text", "data", "code", "headers"]
            )
            | st.text(max_size=3),
            inner | st.sampled_from(["client", "server", "binary", "text", "close"]),
        )
    ),
    max_leaves=8,
).map(json.dumps)


@given(st.lists(JSON | st.text(max_size=20), max_size=5), st.booleans())
def test_parsing_raises_nothing_else(lines: list[str], header: bool) -> None:
    first = ['{"cassette": 1, "server": "ws://x"}'] if header else []
    try:
        Cassette.parse(first + lines)
    except CassetteError:
        pass
