# SPDX-License-Identifier: AGPL-3.0-or-later
from __future__ import annotations

import pytest

from live_transcription.demo.scoring import normalise, word_error_rate


class TestNormalise:
    @pytest.mark.parametrize(
        ("text", "plain"),
        [
            ("Hello, World!", "hello world"),
            ("  two\n lines ", "two lines"),
            ("Don’t stop", "don't stop"),
            ("'quoted' words' end", "quoted words end"),
            ("twenty-one — or so", "twenty one or so"),
            ("snake_case", "snakecase"),
            ("10 of them: 3.5", "10 of them 35"),
            ("Où êtes-vous ?", "où êtes vous"),
            ("…", ""),
        ],
    )
    def test_examples(self, text: str, plain: str) -> None:
        assert normalise(text) == plain
        assert normalise(plain) == plain


class TestWordErrorRate:
    def test_same_words(self) -> None:
        assert word_error_rate([("Hello there.", "hello there")]) == 0

    def test_one_of_each_error(self) -> None:
        pairs = [("a b c", "a x c"), ("a b c", "a c"), ("a b c d", "a b c d e")]
        assert word_error_rate(pairs) == pytest.approx(3 / 10)

    def test_long_texts_weigh_more(self) -> None:
        assert word_error_rate([("a", "b"), ("c d e", "c d e")]) == 0.25

    def test_nothing_recognised(self) -> None:
        assert word_error_rate([("a b", "")]) == 1

    def test_can_exceed_one(self) -> None:
        assert word_error_rate([("a", "b c d")]) == 3

    @pytest.mark.parametrize(
        "pairs", [[], [(None, "words")], [("", "")], [("...", "words")]]
    )
    def test_nothing_to_divide_by(self, pairs: list[tuple[str | None, str]]) -> None:
        assert word_error_rate(pairs) is None

    def test_unknown_reference_does_not_count(self) -> None:
        assert word_error_rate([(None, "x y z"), ("a b", "a b")]) == 0

    def test_words_in_silence_are_insertions(self) -> None:
        assert word_error_rate([("", "x"), ("a b", "a b")]) == 0.5
