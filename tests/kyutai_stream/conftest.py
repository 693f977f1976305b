"""Audio for the tests of kyutai_stream."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

DATA = Path(__file__).with_name("data")


@pytest.fixture(scope="session")
def meeting_path() -> Path:
    """Three flite sentences through Opus, 16 kHz."""
    return DATA / "meeting.wav"


@pytest.fixture(scope="session")
def meeting_text() -> str:
    """Their exact text."""
    return (DATA / "meeting.txt").read_text()


@pytest.fixture(scope="session")
def meeting_16k(meeting_path: Path) -> npt.NDArray[np.int16]:
    """The samples of `meeting.wav`, int16, 16 kHz."""
    with wave.open(str(meeting_path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)


@pytest.fixture(scope="session")
def burst() -> npt.NDArray[np.float32]:
    """Half a second of quiet, one of loud tone, one of quiet; 24 kHz."""
    time = np.arange(24_000) / 24_000
    quiet = np.zeros(24_000, dtype=np.float32)
    tone = (0.3 * np.sin(2 * np.pi * 300 * time)).astype(np.float32)
    return np.concatenate((quiet[:12_000], tone, quiet))
