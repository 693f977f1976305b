from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyutai_stream.core import RetryPolicy, RetryState

POLICY = RetryPolicy()


def failed(
    state: RetryState, times: int, *, lasted_s: float | None = None, now: float = 0.0
) -> RetryState:
    for _ in range(times):
        state.lost(lasted_s, now)
    return state


class TestBackoff:
    def test_delays_double_up_to_the_longest(self) -> None:
        state = RetryState(POLICY)
        delays = [failed(state, 1).delay_s(1.0, 0.0) for _ in range(7)]
        assert delays == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0]

    @pytest.mark.parametrize(("spread", "delay"), [(0.0, 0.25), (0.5, 0.375)])
    def test_jitter_takes_off_up_to_half(self, spread: float, delay: float) -> None:
        assert failed(RetryState(POLICY), 1).delay_s(spread, 0.0) == delay

    def test_days_of_failures_do_not_overflow(self) -> None:
        state = failed(RetryState(POLICY), 100_000)
        assert state.delay_s(1.0, 1.0) == POLICY.longest_s

    def test_before_any_failure_it_is_at_once_or_nearly(self) -> None:
        delay = RetryState(POLICY).delay_s(1.0, 0.0)
        assert delay is not None and delay <= POLICY.first_s


class TestSlowRetries:
    def test_after_the_budget(self) -> None:
        state = failed(RetryState(POLICY), 10)
        assert not state.is_slow(119.9)
        assert state.delay_s(1.0, 119.9) == POLICY.longest_s
        assert state.is_slow(120.0)
        assert state.delay_s(1.0, 120.0) == POLICY.slow_s
        assert state.delay_s(0.0, 120.0) == POLICY.slow_s / 2

    def test_never_on_fewer_attempts(self) -> None:
        # Each attempt may itself take minutes.
        state = failed(RetryState(POLICY), 4)
        assert not state.is_slow(600.0)
        assert failed(state, 1).is_slow(600.0)

    def test_the_budget_counts_from_the_first_failure(self) -> None:
        state = failed(RetryState(POLICY), 5, now=50.0)
        failed(state, 5, now=100.0)
        assert not state.is_slow(169.0)
        assert state.is_slow(170.0)

    def test_without_failures_nothing_is_slow(self) -> None:
        assert not RetryState(POLICY).is_slow(1e9)


class TestGivingUp:
    def test_only_where_the_policy_says_so(self) -> None:
        state = failed(RetryState(RetryPolicy(give_up_s=10.0)), 1, now=5.0)
        assert state.delay_s(0.5, 14.9) is not None
        assert state.delay_s(0.5, 15.0) is None
        assert failed(RetryState(POLICY), 1).delay_s(0.5, 1e6) is not None

    def test_not_before_a_failure(self) -> None:
        assert RetryState(RetryPolicy(give_up_s=1.0)).delay_s(0.5, 9.0) is not None


class TestStability:
    def test_a_stable_connection_clears_the_failures(self) -> None:
        state = failed(RetryState(POLICY), 6)
        state.lost(POLICY.stable_after_s, 300.0)
        assert state.failures == 1
        assert state.delay_s(1.0, 300.0) == POLICY.first_s

    def test_an_unstable_one_does_not(self) -> None:
        state = failed(RetryState(POLICY), 1)
        state.lost(POLICY.stable_after_s - 0.1, 4.9)
        assert state.failures == 2

    def test_what_ended_on_purpose_is_no_failure(self) -> None:
        state = failed(RetryState(POLICY), 9, lasted_s=1.0)
        state.clear()
        assert state.failures == 0
        assert not state.is_slow(1e6)
        assert failed(state, 1, now=1e6).delay_s(1.0, 1e6) == POLICY.first_s

    def test_quick_deaths_are_left_in_peace(self) -> None:
        state = failed(RetryState(POLICY), 2, lasted_s=1.0)
        assert state.delay_s(1.0, 0.0) == 1.0
        failed(state, 1, lasted_s=0.0)
        assert state.delay_s(1.0, 0.0) == POLICY.quick_failure_s

    def test_refusals_are_no_quick_deaths(self) -> None:
        state = failed(RetryState(POLICY), 20, lasted_s=None)
        assert state.delay_s(1.0, 0.0) == POLICY.longest_s

    def test_nor_do_they_end_a_series_of_them(self) -> None:
        state = failed(RetryState(POLICY), 2, lasted_s=1.0)
        failed(state, 1, lasted_s=None)
        failed(state, 1, lasted_s=1.0)
        assert state.delay_s(1.0, 0.0) == POLICY.quick_failure_s


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.none() | st.floats(0.0, 100.0), st.floats(0.0, 100.0)),
        min_size=1,
        max_size=60,
    ),
    st.floats(0.0, 1.0),
)
def test_some_delay_always_comes_and_is_bounded(
    losses: list[tuple[float | None, float]], spread: float
) -> None:
    state = RetryState(POLICY)
    now = 0.0
    for lasted_s, passing in losses:
        now += passing
        state.lost(lasted_s, now)
        delay = state.delay_s(spread, now)
        assert delay is not None
        assert POLICY.first_s / 2 <= delay <= POLICY.slow_s
        assert (delay >= POLICY.slow_s / 2) == state.is_slow(now)
