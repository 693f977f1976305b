# SPDX-License-Identifier: MIT
"""Bring whatever audio comes in to mono float32 at 24 000 Hz; refuse the rest."""

from __future__ import annotations

from ._format import MODEL_RATE, AudioFormat, AudioInput, to_mono
from ._resampler import Resampler

__all__ = ["MODEL_RATE", "AudioFormat", "AudioInput", "Resampler", "to_mono"]
