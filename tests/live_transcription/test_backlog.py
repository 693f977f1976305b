# SPDX-License-Identifier: AGPL-3.0-or-later
"""Audio that waits keeps its order, and what gives way is counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_transcription.backlog import Backlog
from spreed_signaling.media import AudioChunk

RATE = 24_000


@settings(deadline=None)
@given(st.lists(st.sampled_from(["put", "take", "return"]), max_size=60))
def test_a_backlog_keeps_order_and_books(steps: list[str]) -> None:
    size = RATE // 10
    backlog = Backlog(1.0)
    waiting: list[float] = []
    put = taken = 0
    dropped_s = 0.0
    for step in steps:
        if step == "put":
            one = AudioChunk(
                samples=np.zeros(size, np.float32), media_time_s=put * size / RATE
            )
            dropped_s += backlog.put(one)
            waiting = [*waiting, one.media_time_s][-10:]
            put += 1
        elif waiting:
            one = backlog.take()
            assert one.media_time_s == waiting[0]
            if step == "return":
                dropped_s += backlog.put_back(one)
            else:
                waiting, taken = waiting[1:], taken + 1
        assert bool(backlog) == bool(waiting)
    left_s = backlog.clear()
    assert left_s == pytest.approx(len(waiting) / 10)
    assert put / 10 == pytest.approx(taken / 10 + dropped_s + left_s)
