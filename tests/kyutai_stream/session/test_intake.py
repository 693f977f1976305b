"""What the caller gives: is there room for it, and when was it said."""

from __future__ import annotations

import numpy as np
import pytest

from kyutai_stream import (
    SessionOptions,
)
from kyutai_stream.session._machine import SessionMachine

from .driver import Driver


class TestRoom:
    def test_pushing_with_patience_loses_nothing(self) -> None:
        driver = Driver(up=False, try_push=False)
        assert driver.machine.intake.has_room(10_000.0)
        driver.noise(29.5)
        assert driver.machine.intake.has_room(0.5)
        assert not driver.machine.intake.has_room(0.6)

    def test_room_is_told(self) -> None:
        options = SessionOptions(replay_s=5.0, cold_start_s=2.0)
        driver = Driver(up=False, try_push=False, options=options)
        driver.noise(7.0)
        assert driver.machine.intake.make_room(0.9)
        assert not driver.machine.intake.make_room(1.5)
        assert driver.machine.intake.make_room(0.9)


def test_the_resamplers_lag_is_taken_off_the_media_time() -> None:
    machine = SessionMachine("test", SessionOptions())
    machine.intake.admit(np.full(2400, 0.1, dtype=np.float32), 5.0, 0.001, 0.0)
    machine.end(1.0)
    gap = machine.events()[0]
    assert getattr(gap, "start", None) == pytest.approx(4.999)
