# SPDX-License-Identifier: AGPL-3.0-or-later
"""A call can be started from a few lines of JSON."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_transcription.intent import CallIntent


@given(st.text(min_size=1), st.lists(st.text(), unique=True), st.text(min_size=1))
def test_round_trip(room_token: str, readers: list[str], lang_id: str) -> None:
    intent = CallIntent(room_token=room_token, readers=tuple(readers), lang_id=lang_id)
    assert CallIntent.from_json(intent.to_json()) == intent


def test_each_reader_once_and_unknown_keys_ignored() -> None:
    text = '{"room_token":"t","readers":["a","b","a"],"lang_id":"fr","new":1}'
    assert CallIntent.from_json(text).readers == ("a", "b")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"room_token":"","readers":[],"lang_id":"en"}',
        '{"room_token":"t","readers":[]}',
        '{"room_token":"t","readers":"a","lang_id":"en"}',
        '{"room_token":"t","readers":[1],"lang_id":"en"}',
    ],
)
def test_what_is_no_intent(text: str) -> None:
    with pytest.raises(ValueError):
        CallIntent.from_json(text)


def test_session_ids_are_in_no_repr() -> None:
    assert "nc-1" not in repr(CallIntent(room_token="t", readers=("nc-1",)))
