"""Jitter and drift from arrival times."""

from __future__ import annotations

import random

import pytest

from spreed_signaling.media.rtp import StreamTiming


def feed(
    timing: StreamTiming, seconds: float, drift_ppm: float, jitter_s: float
) -> None:
    rng = random.Random(5)
    # Begins right before the 32 bits wrap.
    start = 2**32 - 5 * 48_000
    for number in range(round(seconds * 50)):
        sent_at = number * 0.02 * (1 + drift_ppm / 1e6)
        now = 1_000 + sent_at + rng.uniform(0, jitter_s)
        timing.observe((start + number * 960) & 0xFFFFFFFF, now)


@pytest.mark.parametrize("drift", [-200.0, 0.0, 150.0])
def test_drift_is_seen_through_jitter(drift: float) -> None:
    timing = StreamTiming()
    feed(timing, 120, drift, 0.010)
    assert timing.drift_ppm == pytest.approx(drift, abs=20)


def test_drift_needs_time() -> None:
    timing = StreamTiming()
    assert timing.drift_ppm is None
    feed(timing, 15, 0, 0)
    assert timing.drift_ppm is None
    timing.restart()
    assert timing.drift_ppm is None


def test_jitter() -> None:
    still, shaken = StreamTiming(), StreamTiming()
    feed(still, 10, 0, 0)
    feed(shaken, 10, 0, 0.030)
    assert still.jitter_s < 1e-6
    # Two independent uniform delays differ by a third of their range on average.
    assert shaken.jitter_s == pytest.approx(0.010, abs=0.006)


def test_a_mute_is_neither_jitter_nor_drift() -> None:
    """Chromium's timestamps stand still while Talk has it muted."""
    timing = StreamTiming()
    for number in range(70 * 50):
        muted_s = 7.0 if number > 25 * 50 else 0.0
        timing.observe(number * 960, number * 0.02 + muted_s)
        assert timing.jitter_s < 1e-6
    assert timing.drift_ppm == pytest.approx(0, abs=1)
