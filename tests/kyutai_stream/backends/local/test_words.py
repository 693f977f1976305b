from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.backends.local._words import (
    END_OF_PADDING,
    PADDING,
    EndedWord,
    SpokenWord,
    WordAssembler,
)
from kyutai_stream.core import FRAME_S

PAD, EPAD = PADDING, END_OF_PADDING
Found = list[tuple[int, SpokenWord | EndedWord]]


def run(tokens: list[int], *, delay_steps: int = 6) -> Found:
    """What came, with the step (from 1) at which it came."""
    assembler = WordAssembler(delay_steps=delay_steps)
    return [
        (step, found)
        for step, token in enumerate(tokens, start=1)
        for found in assembler.push(token)
    ]


def test_the_steps_measured_on_the_reference() -> None:
    """A chain of two-piece words without pauses, delay 6."""
    found = run([PAD, EPAD, 20, 21] * 5)
    assert found[:5] == [
        (9, SpokenWord(index=0, pieces=(20, 21), start=0.0)),
        (10, EndedWord(index=0, end=4 * FRAME_S)),
        (13, SpokenWord(index=1, pieces=(20, 21), start=4 * FRAME_S)),
        (14, EndedWord(index=1, end=8 * FRAME_S)),
        (17, SpokenWord(index=2, pieces=(20, 21), start=8 * FRAME_S)),
    ]


def test_tokens_before_the_delay_mean_nothing() -> None:
    found = run([20, 21, EPAD, 22, 23, 24, PAD])
    assert found == [(7, SpokenWord(index=0, pieces=(24,), start=0.0))]


def test_a_word_comes_with_the_padding_after_it() -> None:
    assert run([EPAD, 20, 21], delay_steps=0) == []
    assert [step for step, _ in run([EPAD, 20, 21, PAD], delay_steps=0)] == [4]


def test_words_without_a_pause_between_them() -> None:
    found = run([EPAD, 20, EPAD, 21, 22, EPAD], delay_steps=0)
    assert found == [
        (3, SpokenWord(index=0, pieces=(20,), start=FRAME_S)),
        (3, EndedWord(index=0, end=3 * FRAME_S)),
        (6, SpokenWord(index=1, pieces=(21, 22), start=3 * FRAME_S)),
        (6, EndedWord(index=1, end=6 * FRAME_S)),
    ]


def test_the_end_of_a_word_waits_for_the_next_one() -> None:
    found = run([EPAD, 20, PAD, PAD, PAD, EPAD, EPAD, 21], delay_steps=0)
    assert [(step, type(what)) for step, what in found] == [
        (3, SpokenWord),
        (6, EndedWord),
    ]


def test_steps_before_the_first_token_count() -> None:
    assembler = WordAssembler(delay_steps=1, steps_before=1)
    found = [what for token in (EPAD, 20, PAD) for what in assembler.push(token)]
    assert found == [SpokenWord(index=0, pieces=(20,), start=FRAME_S)]


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 8))
def test_nothing_is_lost_and_time_goes_forward(tokens: list[int], delay: int) -> None:
    found = [what for _, what in run([*tokens, PAD], delay_steps=delay)]
    words = [what for what in found if isinstance(what, SpokenWord)]
    heard = tokens[max(0, delay - 1) :]
    pieces = [token for token in heard if token not in (PAD, EPAD)]
    if delay > len(tokens) + 1:
        pieces = []
    assert [piece for word in words for piece in word.pieces] == pieces
    assert all(word.pieces for word in words)
    assert [word.index for word in words] == list(range(len(words)))
    times = [w.start if isinstance(w, SpokenWord) else w.end for w in found]
    starts = {word.index: word.start for word in words}
    assert [starts[i] for i in sorted(starts)] == sorted(starts.values())
    assert all(time >= 0 for time in times)
    ends = [what for what in found if isinstance(what, EndedWord)]
    assert len({end.index for end in ends}) == len(ends)
    assert all(end.end > starts[end.index] for end in ends)
