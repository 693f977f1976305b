# SPDX-License-Identifier: AGPL-3.0-or-later
"""When the readers are told that a speaker is not heard yet."""

from __future__ import annotations

import numpy as np
import pytest

from live_transcription.notices import LATE_S, Unheard
from spreed_signaling.media import AudioChunk


def audio(level_dbfs: float, seconds: float = 0.08) -> AudioChunk:
    samples = np.full(round(24_000 * seconds), 10 ** (level_dbfs / 20), np.float32)
    return AudioChunk(samples=samples, media_time_s=0.0)


def spoken_until_told(unheard: Unheard) -> float:
    for count in range(1, 100):
        if unheard.waits(audio(-30)):
            return count * 0.08
    raise AssertionError("nobody was told")


def test_speech_that_waits_is_announced_once() -> None:
    unheard = Unheard()
    assert spoken_until_told(unheard) == pytest.approx(LATE_S, abs=0.081)
    assert not any(unheard.waits(audio(-30)) for _ in range(1000))


def test_again_after_it_was_heard() -> None:
    unheard = Unheard()
    for _ in range(2):
        assert spoken_until_told(unheard) == pytest.approx(LATE_S, abs=0.081)
        unheard.heard()


def test_an_open_microphone_is_not_speech() -> None:
    unheard = Unheard()
    assert not any(unheard.waits(audio(-60)) for _ in range(1000))
    assert spoken_until_told(unheard) == pytest.approx(LATE_S, abs=0.081)


def test_nor_is_silence_or_nothing() -> None:
    unheard = Unheard()
    assert not unheard.waits(audio(-np.inf, 60))
    assert not unheard.waits(audio(-30, 0))
