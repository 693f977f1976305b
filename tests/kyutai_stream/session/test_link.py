"""When audio may be sent on a connection, and when something has to be."""

from __future__ import annotations

import pytest
from attrs import evolve

from kyutai_stream import (
    SessionOptions,
)
from kyutai_stream.core import FRAME_S

from .driver import KYUTAI, Driver


class TestKeepalive:
    def test_while_muted(self) -> None:
        driver = Driver(
            capabilities=evolve(KYUTAI, keepalive_interval_s=5.0),
            options=SessionOptions(idle_release_s=None),
        )
        driver.say("ba")
        driver.wait(26.0)
        assert driver.asked.count("AskKeepalive") == 5

    def test_not_while_audio_flows(self) -> None:
        driver = Driver(capabilities=evolve(KYUTAI, keepalive_interval_s=1.0))
        driver.say("ba be bi bo bu ba be bi")
        assert "AskKeepalive" not in driver.asked


class TestWindow:
    def test_only_so_many_frames_are_under_way(self) -> None:
        driver = Driver()
        driver.wait(0.02)
        driver.frozen = True
        driver.noise(4.0)
        assert len(driver.audio.sent) == 16
        metrics = driver.machine.metrics(driver.now)
        assert metrics.server_lag_s == pytest.approx(16 * FRAME_S)
        assert metrics.waiting_s == pytest.approx(4.0 - 16 * FRAME_S, abs=0.16)
