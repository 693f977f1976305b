from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.core import HeardWord, LocalAgreement


def heard(text: str, shift: float = 0.0) -> list[HeardWord]:
    """Words of half a second each."""
    return [
        HeardWord(text=word, start=i * 0.5 + shift, end=i * 0.5 + 0.5)
        for i, word in enumerate(text.split())
    ]


def texts(words: list[HeardWord]) -> list[str]:
    return [word.text for word in words]


class TestCommitting:
    def test_a_word_is_committed_when_it_stayed_long_enough(self) -> None:
        agreement = LocalAgreement(stable_s=0.2, holdback_s=0.1)
        assert agreement.hypothesis(heard("good"), 0.7) == []
        assert agreement.hypothesis(heard("good"), 0.8) == []
        assert texts(agreement.hypothesis(heard("good mor"), 0.9)) == ["good"]
        assert agreement.hypothesis(heard("good morning"), 1.0) == []

    def test_a_word_that_changed_waits_again(self) -> None:
        agreement = LocalAgreement(stable_s=0.2, holdback_s=0.0)
        agreement.hypothesis(heard("wood"), 0.7)
        agreement.hypothesis(heard("good"), 0.8)
        assert agreement.hypothesis(heard("good"), 0.9) == []
        assert texts(agreement.hypothesis(heard("good"), 1.0)) == ["good"]

    def test_the_newest_words_are_held_back(self) -> None:
        agreement = LocalAgreement(stable_s=0.0, holdback_s=0.3)
        assert texts(agreement.hypothesis(heard("one two"), 1.1)) == ["one"]

    def test_a_word_that_moved_is_another_word(self) -> None:
        agreement = LocalAgreement(stable_s=0.1, holdback_s=0.0, drift_s=0.05)
        agreement.hypothesis(heard("one"), 0.6)
        assert agreement.hypothesis(heard("one", shift=0.2), 0.7) == []

    def test_a_hypothesis_that_lost_the_word_blocks_it(self) -> None:
        agreement = LocalAgreement(stable_s=0.1, holdback_s=0.0)
        agreement.hypothesis([], 0.6)
        assert agreement.hypothesis(heard("one"), 0.7) == []

    def test_the_final_hypothesis_adds_what_is_missing(self) -> None:
        agreement = LocalAgreement(stable_s=0.0, holdback_s=0.0)
        assert texts(agreement.hypothesis(heard("one"), 0.6)) == ["one"]
        # The decoder changed its mind about what was said: too late.
        assert texts(agreement.final(heard("won two three"))) == ["two", "three"]
        assert agreement.final([]) == []


@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=12),
    st.sampled_from([0.0, 0.1, 0.3]),
)
def test_committed_words_are_in_order_and_never_doubled(
    hypotheses: list[list[str]], stable_s: float
) -> None:
    agreement = LocalAgreement(stable_s=stable_s, holdback_s=0.0)
    committed = []
    for step, words in enumerate(hypotheses):
        committed += agreement.hypothesis(heard(" ".join(words)), 0.1 * step)
    last = hypotheses[-1] if hypotheses else []
    committed += agreement.final(heard(" ".join(last)))
    starts = [word.start for word in committed]
    assert starts == sorted(set(starts))
