from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kyutai_stream.core import DeliveredWord, Join

OFF_S = 0.16
"""How far a second hearing may be dated off."""


def delivered(
    text: str, *, first: float = 1.0, step: float = 0.4
) -> list[DeliveredWord]:
    return [
        DeliveredWord(text=word, start=first + i * step)
        for i, word in enumerate(text.split())
    ]


def hear(join: Join, text: str, *, first: float = 1.0, step: float = 0.4) -> str:
    """Say words one by one; what of them is new."""
    new = [join.admit(word, first + i * step)[0] for i, word in enumerate(text.split())]
    return " ".join(word for word in new if word)


class TestWhole:
    def test_without_a_past_everything_is_new(self) -> None:
        join = Join(())
        assert join.is_done
        assert join.admit("hello there", 3.0) == ("hello there", 3.0)

    def test_what_was_delivered_is_left_out(self) -> None:
        join = Join(delivered("the cat sat"))
        assert hear(join, "the cat sat on it") == "on it"
        assert join.is_done
        assert join.dropped == 3

    def test_case_and_punctuation_change(self) -> None:
        join = Join(delivered("Hello, world."))
        assert hear(join, "hello World how") == "how"

    def test_the_same_words_much_later_are_new(self) -> None:
        join = Join(delivered("yes no"))
        assert hear(join, "yes no", first=5.0) == "yes no"

    def test_repeated_words_are_counted(self) -> None:
        join = Join(delivered("no no"))
        assert hear(join, "no no no no") == "no no"

    def test_the_rest_of_what_was_not_heard_again_is_given_up(self) -> None:
        join = Join(delivered("alpha bravo charlie"))
        assert hear(join, "alpha delta echo", step=1.2) == "delta echo"
        assert join.is_done

    def test_words_are_not_in_a_repr(self) -> None:
        assert "secret" not in repr(delivered("secret")[0])


class TestVariants:
    def test_another_spelling_of_a_word_gives_way(self) -> None:
        join = Join(delivered("the colour of it"))
        assert hear(join, "the color of it all") == "all"

    def test_of_the_last_word_too(self) -> None:
        join = Join(delivered("what colour"))
        assert hear(join, "what color is") == "is"

    def test_more_of_a_word_than_was_delivered_gives_way(self) -> None:
        join = Join(delivered("alpha some"))
        assert hear(join, "alpha something new") == "new"

    def test_of_a_word_and_a_filler_in_its_place_both_give_way(self) -> None:
        join = Join(delivered("alpha bravo charlie"))
        assert join.admit("alpha", 1.0)[0] == ""
        assert join.admit("uh", 1.2)[0] == ""
        assert join.admit("brava", 1.45)[0] == ""
        assert join.admit("charlie delta", 1.8) == ("delta", 1.8 + 0.35)
        assert (join.dropped, join.late) == (4, 0)

    def test_a_word_that_is_not_heard_again_is_passed(self) -> None:
        join = Join(delivered("alpha bravo charlie"))
        assert join.admit("alpha", 1.0)[0] == ""
        assert join.admit("charlie", 1.8)[0] == ""
        assert join.admit("delta", 2.2)[0] == "delta"

    def test_a_dash_is_no_word_to_say_twice(self) -> None:
        join = Join(delivered("well - yes"))
        assert hear(join, "well - yes sir") == "sir"


class TestMissed:
    """A word that the first hearing missed amid others."""

    def test_it_comes_late_but_it_comes(self) -> None:
        join = Join(delivered("alpha charlie", step=0.8))
        assert join.admit("alpha", 1.0)[0] == ""
        assert join.admit("bravo", 1.4)[0] == ""
        assert join.admit("charlie", 1.8) == ("bravo", 1.4)
        assert join.admit("delta", 2.2) == ("delta", 2.2)
        assert (join.dropped, join.late) == (2, 1)

    def test_before_the_new_words_of_the_same_message(self) -> None:
        join = Join(delivered("alpha charlie", step=0.8))
        assert hear(join, "alpha bravo") == ""
        assert join.admit("charlie delta", 1.8) == ("bravo delta", 1.4)

    def test_one_where_another_was_delivered_is_a_version_of_it(self) -> None:
        # Nothing was skipped, but no two words begin at the same time.
        join = Join(delivered("alpha bravo"))
        assert join.admit("alpha", 1.0)[0] == ""
        assert join.admit("and", 1.2)[0] == ""
        assert join.admit("bravo", 1.4)[0] == ""
        assert (join.dropped, join.late) == (3, 0)

    def test_before_the_first_that_is_heard_again_nothing_is_believed(self) -> None:
        # A recogniser that begins in the middle of speech starts with odd words.
        join = Join(delivered("bravo charlie", first=1.4))
        assert hear(join, "odd bravo charlie delta") == "delta"

    def test_nor_if_the_seam_ends_without_another(self) -> None:
        join = Join(delivered("alpha bravo charlie", step=0.8))
        assert hear(join, "alpha odd echo foxtrot", step=0.9) == "foxtrot"
        assert (join.dropped, join.late) == (3, 0)


class TestMessages:
    def test_of_several_words_the_new_end_is_kept_with_its_time(self) -> None:
        join = Join(delivered("alpha bravo"))
        text, start = join.admit("bravo charlie", 1.4)
        assert text == "charlie"
        assert 1.4 < start <= 1.8

    def test_nothing_new(self) -> None:
        join = Join(delivered("alpha bravo"))
        assert join.admit("alpha bravo", 1.0) == ("", 1.0)
        assert join.admit("  ", 1.2)[0] == ""

    def test_a_word_heard_in_parts(self) -> None:
        join = Join(delivered("wonderful day"))
        assert hear(join, "wonder ful day today") == "today"

    def test_the_last_word_in_parts(self) -> None:
        join = Join(delivered("so wonderful"))
        assert hear(join, "so wonder") == ""
        assert join.admit("ful", 1.72)[0] == ""
        assert join.admit("day", 1.9)[0] == "day"

    def test_a_new_word_right_behind_words_heard_as_one(self) -> None:
        join = Join(delivered("some thing"))
        assert join.admit("something", 1.0)[0] == ""
        assert join.admit("new", 1.6)[0] == "new"

    def test_words_heard_as_one(self) -> None:
        join = Join(delivered("some thing else"))
        assert hear(join, "something else new", step=0.6) == "new"

    def test_a_part_that_is_followed_by_another_word(self) -> None:
        join = Join(delivered("wonderful day"))
        assert hear(join, "wonder day today") == "today"


class TestWithoutTimes:
    """A backend that guesses times: order alone decides."""

    def test_wrong_times_do_not_matter(self) -> None:
        join = Join(delivered("alpha bravo charlie"), timed=False)
        assert hear(join, "alpha bravo charlie delta", first=30.0) == "delta"

    def test_it_may_begin_anywhere(self) -> None:
        join = Join(delivered("alpha bravo charlie delta echo"), timed=False)
        assert hear(join, "delta echo foxtrot", first=9.0) == "foxtrot"

    def test_words_that_are_missing_are_passed(self) -> None:
        join = Join(delivered("alpha bravo charlie delta"), timed=False)
        assert hear(join, "alpha delta echo", first=9.0) == "echo"

    def test_a_common_word_is_not_taken_for_a_later_one(self) -> None:
        join = Join(delivered("the cat sat and so it left the"), timed=False)
        assert hear(join, "cat the mat", first=9.0) == "the mat"

    def test_what_was_never_delivered_is_new(self) -> None:
        join = Join(delivered("alpha bravo"), timed=False)
        assert hear(join, "charlie delta", first=0.0) == "charlie delta"


# -- any sequence, cut anywhere, heard again -----------------------------------------


@st.composite
def speech(draw: st.DrawFn, words: str, *, apart: bool = False) -> list[DeliveredWord]:
    """Words 0.25 to 0.9 s apart.

    Args:
        draw: Hypothesis's.
        words: To choose from.
        apart: Whether equal words lie so far apart that times tell them.
    """
    chosen = draw(st.lists(st.sampled_from(words.split()), min_size=1, max_size=14))
    said: list[DeliveredWord] = []
    at = 0.5
    for text in chosen:
        if apart:
            near = [one.text for one in said if at - one.start <= 1.0]
            assume(text not in near)
        said.append(DeliveredWord(text=text, start=round(at, 3)))
        at += draw(st.sampled_from([0.25, 0.32, 0.45, 0.9]))
    return said


VARIED = "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima"
ALIKE = "no no, No. on one only yes"


@st.composite
def second_hearings(
    draw: st.DrawFn, said: list[DeliveredWord], cut_s: float
) -> list[tuple[str, float]]:
    """The words from a time on: moved by up to 160 ms and some merged by two."""
    heard: list[tuple[str, float]] = []
    joined = 0.0
    last = 0.0
    for word in said:
        if word.start < cut_s:
            continue
        close = heard and word.start - joined < 0.5 and " " not in heard[-1][0]
        if close and draw(st.integers(0, 3)) == 0:
            heard[-1] = (f"{heard[-1][0]} {word.text}", heard[-1][1])
            continue
        last = max(last, word.start + draw(st.floats(-OFF_S, OFF_S)))
        joined = word.start
        heard.append((word.text, last))
    return heard


def _captioned(
    said: list[DeliveredWord], known: int, cut_s: float, heard: list[tuple[str, float]]
) -> list[str]:
    """What the reader has in the end: the first `known` words, then what is new."""
    expected = [word for word in said[:known] if word.start > cut_s - 0.1]
    join = Join(expected)
    shown = [word.text for word in said[:known]]
    last = 0.0
    for text, start in heard:
        new, at = join.admit(text, start)
        shown += new.split()
        assert at >= start
        assert not new or at >= last
        last = max(last, at) if new else last
    return shown


@settings(deadline=None)
@given(st.data())
def test_any_cut_gives_all_words_once(data: st.DataObject) -> None:
    said = data.draw(speech(VARIED, apart=True))
    known = data.draw(st.integers(0, len(said)))
    # Sent again from a quiet place before some delivered word.
    back = data.draw(st.integers(0, known))
    cut_s = said[back].start - 0.12 if back < len(said) else said[-1].start + 0.4
    heard = data.draw(second_hearings(said, cut_s))
    assert _captioned(said, known, cut_s, heard) == [word.text for word in said]


@settings(deadline=None)
@given(st.data())
def test_equal_words_are_neither_lost_nor_doubled(data: st.DataObject) -> None:
    said = data.draw(speech(ALIKE))
    known = data.draw(st.integers(0, len(said)))
    back = data.draw(st.integers(0, known))
    cut_s = said[back].start - 0.12 if back < len(said) else said[-1].start + 0.4
    # Dated exactly, word by word: then nothing excuses an error.
    heard = [(word.text, word.start) for word in said if word.start >= cut_s]
    assert _captioned(said, known, cut_s, heard) == [word.text for word in said]


@settings(deadline=None)
@given(st.data())
def test_no_variant_spelling_is_shown_twice(data: st.DataObject) -> None:
    said = data.draw(speech(VARIED, apart=True))
    cut_s = said[data.draw(st.integers(0, len(said) - 1))].start - 0.12
    heard = data.draw(second_hearings(said, cut_s))
    places = data.draw(st.sets(st.integers(0, len(heard) - 1)))
    changed = [
        (f"x{text}" if place in places else text, at)
        for place, (text, at) in enumerate(heard)
    ]
    single = [one for one in changed if " " not in one[0]]
    # Everything had been delivered: nothing may come a second time.
    assert _captioned(said, len(said), cut_s, single) == [word.text for word in said]


@settings(deadline=None)
@given(st.data())
def test_what_the_first_hearing_missed_is_not_lost(data: st.DataObject) -> None:
    count = data.draw(st.integers(3, 12))
    said = [
        DeliveredWord(text=text, start=0.5 + 0.6 * place)
        for place, text in enumerate(VARIED.split()[:count])
    ]
    missed = data.draw(st.sets(st.integers(1, count - 2)))
    told = [word for place, word in enumerate(said) if place not in missed]
    join = Join(told)
    shown = [word.text for word in told]
    for word in said:
        at = word.start + data.draw(st.floats(-OFF_S, OFF_S))
        shown += join.admit(word.text, at)[0].split()
    assert sorted(shown) == sorted(word.text for word in said)
    assert join.late == len(missed)


@settings(deadline=None)
@given(st.data())
def test_a_word_in_parts_is_not_shown_again(data: st.DataObject) -> None:
    said = data.draw(speech(VARIED, apart=True))
    heard: list[tuple[str, float]] = []
    for word in said:
        cut = data.draw(st.integers(1, len(word.text)))
        heard.append((word.text[:cut], word.start))
        if word.text[cut:]:
            heard.append((word.text[cut:], word.start + 0.08))
    assert _captioned(said, len(said), 0.0, heard) == [word.text for word in said]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=12), st.floats(0, 9)), max_size=12),
    st.lists(st.tuples(st.text(max_size=12), st.floats(0, 9)), max_size=12),
)
def test_whatever_comes_it_invents_nothing(
    before: list[tuple[str, float]], after: list[tuple[str, float]]
) -> None:
    join = Join([DeliveredWord(text=text, start=at) for text, at in before])
    said: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    for text, start in after:
        said.update(text.split())
        shown.update(join.admit(text, start)[0].split())
        assert shown <= said


@pytest.mark.parametrize("late", [0.0, OFF_S, -OFF_S])
def test_a_new_word_right_behind_the_seam_is_not_lost(late: float) -> None:
    join = Join(delivered("alpha bravo"))
    assert hear(join, "alpha bravo", first=1.0 + late) == ""
    assert join.admit("a", 1.6 + late)[0] == "a"
