from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.wire.spelling import HOLD_S, LONGEST, MOST_WORDS, Speller

words = st.text("abcd.'é", min_size=1, max_size=6)


def tokens(speller: Speller, *texts: str) -> list[str]:
    return [word for text in texts for word in speller.token(text, 1.0)]


def texts(speller: Speller, *messages: str | tuple[str]) -> list[str]:
    """Untyped messages; one in a tuple is final."""
    told = []
    for message in messages:
        final = isinstance(message, tuple)
        text = message[0] if isinstance(message, tuple) else message
        told += speller.text(text, 1.0, final=final)
    return told


class TestTokens:
    def test_words_come_at_once(self) -> None:
        assert tokens(Speller(), "Hello", "", "you there") == ["Hello", "you", "there"]

    def test_pieces_wait_for_the_next_word(self) -> None:
        speller = Speller()
        assert tokens(speller, " Hel", "lo", "", ",") == []
        assert tokens(speller, " you") == ["Hello,"]
        assert speller.tick(1.0 + HOLD_S / 2) == []
        assert speller.tick(1.0 + HOLD_S) == ["you"]
        assert speller.deadline == math.inf

    def test_each_piece_extends_the_wait(self) -> None:
        speller = Speller()
        speller.token(" Hel", 1.0)
        speller.token("lo", 1.3)
        assert speller.deadline == 1.3 + HOLD_S

    def test_whole_words_with_spaces_and_loose_punctuation(self) -> None:
        speller = Speller()
        told = tokens(speller, " Well", " yes", ".", " No") + speller.finish()
        assert told == ["Well", "yes.", "No"]

    def test_spaces_found_late(self) -> None:
        speller = Speller()
        assert tokens(speller, "Hel", "lo") == ["Hel", "lo"]
        assert tokens(speller, " you", " all ") == ["you", "all"]

    def test_sentencepiece_marks_and_spaces_alone(self) -> None:
        speller = Speller()
        assert tokens(speller, "\u2581a", "b", " ", "c") == ["ab"]
        assert speller.finish() == ["c"]

    def test_nothing_grows_without_end(self) -> None:
        told = tokens(Speller(), " ", *["x" * 50] * 9)
        assert len(told) == 1 and len(told[0]) == LONGEST + 50

    @given(st.lists(st.lists(words, min_size=1, max_size=4), max_size=6))
    def test_any_split_gives_the_words(self, split: list[list[str]]) -> None:
        speller = Speller()
        told = []
        for pieces in split:
            told += tokens(speller, " " + pieces[0], *pieces[1:])
        assert told + speller.finish() == ["".join(pieces) for pieces in split]


class TestUntyped:
    def test_word_by_word(self) -> None:
        speller = Speller()
        assert texts(speller, "alpha") == []
        assert texts(speller, "bravo", "charlie") == ["alpha", "bravo", "charlie"]
        assert texts(speller, ("",)) == []
        assert texts(speller, "delta") == []
        assert speller.tick(2.0) == ["delta"]
        assert texts(speller, "echo") == ["echo"]

    def test_one_word_twice_is_two_words(self) -> None:
        assert texts(Speller(), "no", "no", "never") == ["no", "no", "never"]

    def test_a_short_word_that_begins_the_next(self) -> None:
        assert texts(Speller(), "a", "and") == ["a", "and"]

    def test_chunks_of_words(self) -> None:
        speller = Speller()
        told = texts(speller, "one two", "three four", ("five",))
        assert told == ["one", "two", "three", "four", "five"]

    def test_chunks_and_the_whole_at_the_end(self) -> None:
        speller = Speller()
        told = texts(speller, "one two", "three", ("one two three",), "four", ("five",))
        assert told == ["one", "two", "three", "four", "five"]

    def test_one_final_for_each_utterance(self) -> None:
        assert texts(Speller(), ("a b",), ("a b",), ("c",)) == ["a", "b", "a", "b", "c"]

    def test_growing(self) -> None:
        speller = Speller()
        assert texts(speller, "one tw") == ["one"]
        assert texts(speller, "one two") == []
        assert texts(speller, "one two three") == ["two"]
        assert texts(speller, ("one two three.",)) == ["three."]
        assert texts(speller, "four", "four five", ("four five",)) == ["four", "five"]

    def test_the_same_text_does_not_extend_the_wait(self) -> None:
        speller = Speller()
        speller.text("one two", 1.0, final=False)
        speller.text("one two", 1.2, final=False)
        assert speller.deadline == 1.0 + HOLD_S
        assert speller.tick(1.4) == ["two"]
        assert texts(speller, "one two", "one", ("one two",)) == []

    def test_growing_utterances_without_a_final(self) -> None:
        speller = Speller()
        told = texts(speller, "one", "one two", "hi", "hi there", "yes")
        assert told == ["one", "two", "hi", "there"]

    def test_a_single_word_and_its_final(self) -> None:
        assert texts(Speller(), "yes", ("yes",)) == ["yes"]

    def test_pieces_without_a_type(self) -> None:
        speller = Speller()
        assert texts(speller, " Hel", "lo", " you", ("",)) == ["Hello", "you"]

    def test_hours_of_chunks_are_not_remembered(self) -> None:
        speller = Speller()
        told = texts(speller, *["some words", "and more"] * MOST_WORDS)
        assert len(told) == 4 * MOST_WORDS
        assert len(vars(speller)["_segment"]) <= MOST_WORDS

    @given(st.lists(words, unique=True, min_size=2, max_size=8))
    def test_a_growing_text_tells_each_word_once(self, spoken: list[str]) -> None:
        speller = Speller()
        told = []
        for count in range(2, len(spoken)):
            told += texts(speller, " ".join(spoken[:count]))
        told += texts(speller, (" ".join(spoken),))
        assert told == spoken

    @given(st.lists(st.tuples(st.text(" ab\u2581", max_size=5), st.booleans())))
    def test_told_words_are_words(self, messages: list[tuple[str, bool]]) -> None:
        speller = Speller()
        for number, (text, typed) in enumerate(messages):
            if typed:
                told = speller.token(text, number)
            else:
                told = speller.text(text, number, final=number % 3 == 0)
            for word in told + speller.tick(number + 0.5):
                assert word and word == word.strip()


@pytest.mark.parametrize("final", [False, True])
def test_empty_text(final: bool) -> None:
    assert Speller().text("", 0.0, final=final) == []
