from __future__ import annotations

from kyutai_stream.core import RetryPolicy


def test_delays_double_up_to_the_longest_and_then_it_gives_up() -> None:
    policy = RetryPolicy(attempts=7, first_s=0.5, longest_s=8.0)
    delays = [policy.delay_s(failures, 1.0) for failures in range(1, 8)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, None]


def test_jitter_takes_off_up_to_half() -> None:
    assert RetryPolicy().delay_s(1, 0.0) == 0.25
