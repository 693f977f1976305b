from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyutai_stream.core import DeafRules, DeafWatch

RULES = DeafRules()


def watch(loud_s: float = 0.0) -> DeafWatch:
    made = DeafWatch(RULES, 0.0)
    made.loud(loud_s)
    return made


class TestSuspicion:
    def test_it_takes_sound_and_time(self) -> None:
        assert not watch(0.0).suspects(1e6)
        assert not watch(100.0).suspects(7.9)
        assert not watch(7.9).suspects(100.0)
        assert watch(8.0).suspects(8.0)

    def test_at_once_only_later(self) -> None:
        assert not watch(14.9).insists(99.0)
        assert not watch(99.0).insists(14.9)
        assert watch(15.0).insists(15.0)

    def test_a_word_ends_it(self) -> None:
        deaf = watch(20.0)
        deaf.word(20.0)
        assert not deaf.suspects(40.0)
        assert not deaf.has_doubts
        deaf.loud(8.0)
        assert deaf.has_doubts
        assert not deaf.suspects(27.9)
        assert deaf.suspects(28.0)


class TestRestarts:
    def test_a_vain_one_doubles_the_patience(self) -> None:
        deaf = watch(8.0)
        deaf.restarted(8.0, on_purpose=True)
        assert deaf.is_vain
        deaf.loud(15.9)
        assert not deaf.suspects(99.0)
        deaf.loud(0.1)
        assert not deaf.suspects(23.9)
        assert deaf.suspects(24.0)
        assert not deaf.insists(99.0)
        deaf.loud(14.0)
        assert deaf.insists(99.0)

    def test_one_for_another_reason_does_not(self) -> None:
        deaf = watch(8.0)
        deaf.restarted(8.0, on_purpose=False)
        assert not deaf.is_vain and not deaf.has_doubts
        deaf.loud(8.0)
        assert deaf.suspects(16.0)

    def test_patience_ends_somewhere(self) -> None:
        # An hour of music: no words, and a restart every two minutes at most.
        deaf = watch()
        now, restarts = 0.0, []
        while now < 3600:
            now += 1.0
            deaf.loud(1.0)
            if deaf.suspects(now):
                deaf.restarted(now, on_purpose=True)
                restarts.append(now)
        apart = [b - a for a, b in zip(restarts, restarts[1:], strict=False)]
        assert apart[:3] == [16.0, 32.0, 64.0]
        assert set(apart[3:]) == {RULES.longest_s}

    def test_a_word_gives_the_patience_back(self) -> None:
        deaf = watch(8.0)
        deaf.restarted(8.0, on_purpose=True)
        deaf.word(9.0)
        assert not deaf.is_vain
        deaf.loud(8.0)
        assert deaf.suspects(17.0)

    def test_rules_longer_than_the_longest_hold(self) -> None:
        deaf = DeafWatch(DeafRules(speech_s=200.0, force_s=300.0), 0.0)
        deaf.loud(299.0)
        assert deaf.suspects(400.0) and not deaf.insists(400.0)
        deaf.restarted(400.0, on_purpose=True)
        deaf.loud(200.0)
        assert deaf.suspects(600.0)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["loud", "word", "lost", "deaf"]), st.floats(0.0, 30.0)
        ),
        max_size=40,
    )
)
def test_who_insists_suspects_too(script: list[tuple[str, float]]) -> None:
    deaf = DeafWatch(RULES, 0.0)
    now = 0.0
    for name, seconds in script:
        now += seconds
        if name == "loud":
            deaf.loud(seconds)
        elif name == "word":
            deaf.word(now)
        else:
            deaf.restarted(now, on_purpose=name == "deaf")
        assert deaf.suspects(now) or not deaf.insists(now)
        assert deaf.has_doubts or not deaf.suspects(now)


@pytest.mark.parametrize("speech_s", [2.0, 8.0])
def test_the_limits_are_settings(speech_s: float) -> None:
    deaf = DeafWatch(DeafRules(speech_s=speech_s), 0.0)
    deaf.loud(speech_s)
    assert deaf.suspects(speech_s)
