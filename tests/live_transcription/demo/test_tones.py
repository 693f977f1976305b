# SPDX-License-Identifier: AGPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kyutai_stream.audio import Resampler
from kyutai_stream.testing.tones import ToneRecogniser
from live_transcription.demo.clips import load_clip
from live_transcription.demo.tones import tone_clips


def test_what_is_said_is_in_the_files(tmp_path: Path) -> None:
    for clip in tone_clips(tmp_path, 4):
        looked_at = load_clip(clip.path)
        assert looked_at.duration_s == pytest.approx(clip.duration_s, abs=0.01)
        assert looked_at.voice_start_s == pytest.approx(clip.voice_start_s, abs=0.02)
        raw = np.frombuffer(clip.path.read_bytes()[44:], dtype="<i2")
        samples = raw.astype(np.float32) / np.float32(32768)
        heard = ToneRecogniser().push(Resampler(48_000).push(samples))
        assert " ".join(word.text for word in heard) == clip.text


def test_each_talker_says_something_else_but_always_the_same(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    clips = tone_clips(tmp_path, 4)
    again = tone_clips(tmp_path / "again", 4)
    assert [clip.text for clip in clips] == [clip.text for clip in again]
    assert len({clip.text for clip in clips}) == 4
    assert len({clip.name for clip in clips}) == 4
