"""Word error rates and percentiles."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream import BackendUnavailable
from kyutai_stream.cli._scoring import (
    WordErrors,
    confidence,
    count_errors,
    normalise,
    percentile,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Hello, World!", "hello world"),
        ("It\u2019s Ada's 'dog'.", "it's ada's dog"),
        ("well-known  U.S.\ncase", "well known u s case"),
        ("Où étiez-vous ?", "où étiez vous"),
        ("ﬁne １２", "fine 12"),
        ("a_b …", "a b"),
        ("", ""),
    ],
)
def test_the_normaliser(text: str, normal: str) -> None:
    assert normalise(text) == normal


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_each_kind_of_error() -> None:
    found = count_errors("one two three four", "one too four five")
    assert (found.words, found.errors) == (4, 3)
    assert found.rate == 0.75
    assert count_errors("One.", "one").errors == 1


@pytest.mark.parametrize("heard", ["", "some words here"])
def test_an_empty_reference_has_no_rate(heard: str) -> None:
    found = count_errors("  \n", heard)
    assert found.rate is None
    assert found.inserted == len(heard.split())


def test_nothing_heard_is_everything_deleted() -> None:
    found = count_errors("one two", "")
    assert (found.deleted, found.rate) == (2, 1.0)


def test_without_jiwer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(BackendUnavailable, match=r"kyutai-stream\[cli\]"):
        count_errors("one", "one")


def test_the_interval_holds_the_rate() -> None:
    files = [
        WordErrors(words=10, substituted=n % 3, deleted=0, inserted=0)
        for n in range(30)
    ]
    interval = confidence(files)
    assert interval is not None
    low, high = interval
    assert 0.05 < low < 0.1 < high < 0.15
    assert confidence(files) == interval
    assert confidence(files[:1]) is None


def test_percentiles() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([0.0, 1.0], 95) == pytest.approx(0.95)
    assert percentile([5.0], 99) == 5.0
