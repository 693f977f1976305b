from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyutai_stream.core import FRAME_S, SendWindow
from kyutai_stream.core.flow import BURST_FRAMES


def burst(window: SendWindow, now: float, in_flight: int = 0) -> int:
    """Send as long as no wait is asked for; how many frames went."""
    count = 0
    while window.wait_s(in_flight, now) == 0.0 and count < 1000:
        window.sent()
        count += 1
    return count


def test_a_full_window_waits_for_an_acknowledgement() -> None:
    window = SendWindow(acks=True, window=16, speed=None)
    assert window.wait_s(15, 0.0) == 0.0
    assert window.wait_s(16, 0.0) is None
    assert window.wait_s(17, 99.0) is None
    assert window.wait_s(15, 99.0) == 0.0


def test_without_reports_only_the_rate_counts() -> None:
    window = SendWindow(acks=False, window=16, speed=None)
    assert window.wait_s(10_000, 0.0) == 0.0


def test_a_burst_then_the_rate() -> None:
    window = SendWindow(acks=False, window=16, speed=5.0)
    assert burst(window, 10.0) == BURST_FRAMES
    wait = window.wait_s(0, 10.0)
    assert wait == pytest.approx(FRAME_S / 5)
    assert wait is not None
    assert burst(window, 10.0 + wait + 1e-9) == 1
    steps = [burst(window, 10.1 + 0.1 * step) for step in range(10)]
    assert sum(steps) == pytest.approx(5 / FRAME_S, abs=7)


def test_a_long_rest_saves_up_no_more_than_a_burst() -> None:
    window = SendWindow(acks=False, window=16, speed=5.0)
    burst(window, 0.0)
    assert burst(window, 3600.0) == BURST_FRAMES


def test_a_clock_that_steps_back_takes_nothing() -> None:
    window = SendWindow(acks=False, window=16, speed=5.0)
    burst(window, 10.0)
    assert window.wait_s(0, 0.0) == pytest.approx(FRAME_S / 5)


def test_live_audio_never_waits() -> None:
    window = SendWindow(acks=True, window=16, speed=1.5)
    for frame in range(1000):
        assert window.wait_s(6, frame * FRAME_S) == 0.0
        window.sent()


events = st.lists(
    st.tuples(st.sampled_from(["send", "ack"]), st.floats(0.0, 0.3)), max_size=200
)


@settings(deadline=None)
@given(events, st.integers(1, 20), st.floats(0.5, 10.0))
def test_neither_window_nor_rate_is_ever_exceeded(
    script: list[tuple[str, float]], size: int, speed: float
) -> None:
    window = SendWindow(acks=True, window=size, speed=speed)
    now = 0.0
    in_flight = 0
    sent_at: list[float] = []
    for name, passing in script:
        now += passing
        if name == "ack":
            in_flight = max(0, in_flight - 3)
            continue
        wait = window.wait_s(in_flight, now)
        assert (wait is None) == (in_flight >= size)
        if wait is None:
            continue
        # A wait is long enough: afterwards the frame may go.
        now += wait
        window.sent()
        in_flight += 1
        sent_at.append(now)
    rate = speed / FRAME_S
    for first, begin in enumerate(sent_at):
        for last, end in enumerate(sent_at[first:], first):
            assert last - first <= BURST_FRAMES + (end - begin) * rate + 1e-6


@settings(deadline=None)
@given(st.floats(0.5, 10.0), st.floats(0.0, 1e6))
def test_after_the_wait_the_frame_may_go(speed: float, began: float) -> None:
    window = SendWindow(acks=False, window=1, speed=speed)
    burst(window, began)
    wait = window.wait_s(0, began)
    assert wait is not None and wait > 0
    # On a clock of that size a wait is rounded.
    assert window.wait_s(0, began + wait) == pytest.approx(0.0, abs=1e-9)
