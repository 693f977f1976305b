# SPDX-License-Identifier: MIT
"""Audio in and out: received frames to model-ready chunks, files to tracks.

This is the path through aiortc's own jitter buffer and decoder. Resampling
keeps its state across frames (FFmpeg's resampler), so that there is no click at
their borders.
"""

from __future__ import annotations

import fractions
from collections.abc import Iterator
from pathlib import Path

import anyio
import av
import av.error
import numpy as np
import numpy.typing as npt
from aiortc.mediastreams import MediaStreamTrack
from attrs import field, frozen

from .._tasks import Signal
from ..errors import MediaError

__all__ = ["SAMPLE_RATE", "AudioChunk", "AudioFile", "FrameConverter"]

SAMPLE_RATE = 24_000
"""Hz. What Kyutai's models hear; enough for any speech recogniser."""

_RTP_RATE = 48_000
"""Hz. Opus over RTP counts at this rate whatever the encoder did (RFC 7587)."""

_LONGEST_GAP_S = 10
"""A timestamp jump beyond this is a restarted sender, not missing audio."""

_PUBLISHED_FRAME = 960
"""Samples at 48 kHz: 20 ms, what WebRTC clients send."""

_VOICED_LEVEL = 655
"""Peak of a frame (int16) from which it counts as voiced: 2 % of full scale."""


@frozen(kw_only=True, eq=False)
class AudioChunk:
    """A piece of one speaker's audio."""

    samples: npt.NDArray[np.float32] = field(repr=False)
    """Mono PCM, float32, shape `(n,)`, -1.0 to 1.0."""
    sample_rate: int = SAMPLE_RATE
    """Hz."""
    media_time_s: float
    """Time of the first sample, seconds since this speaker's first audio."""
    gap_samples: int = 0
    """Samples missing right before this chunk. Samples plus gaps are media time:
    silence is never invented here."""


class FrameConverter:
    """Turns decoded WebRTC frames into 24 kHz mono float32 chunks."""

    def __init__(self) -> None:
        self._resampler = av.AudioResampler(
            format="flt", layout="mono", rate=SAMPLE_RATE
        )
        self._position = 0
        self._expected_pts: int | None = None

    def convert(self, frame: av.AudioFrame) -> AudioChunk:
        """Convert one frame; the chunk may be empty while the resampler fills.

        Args:
            frame: Any format and layout, 48 kHz, `pts` counting at 48 kHz.
        """
        gap = self._gap_before(frame)
        parts = [
            resampled.to_ndarray().reshape(-1)
            for resampled in self._resampler.resample(frame)
        ]
        samples = (
            np.concatenate(parts).astype(np.float32, copy=False)
            if parts
            else np.zeros(0, np.float32)
        )
        start = self._position + gap
        self._position = start + len(samples)
        return AudioChunk(
            samples=samples, media_time_s=start / SAMPLE_RATE, gap_samples=gap
        )

    def _gap_before(self, frame: av.AudioFrame) -> int:
        """Samples at 24 kHz that are missing before this frame."""
        pts = frame.pts
        if pts is None:
            return 0
        missing = 0 if self._expected_pts is None else pts - self._expected_pts
        self._expected_pts = pts + frame.samples
        if 0 < missing <= _LONGEST_GAP_S * _RTP_RATE:
            return missing * SAMPLE_RATE // _RTP_RATE
        return 0


class AudioFile(MediaStreamTrack):
    """A track that plays a file in real time, then silence until stopped.

    Silence afterwards keeps the stream alive, as a microphone does.

    Args:
        path: Anything FFmpeg reads.
        lead_s: Silence before the file, seconds.
        paused: Send silence until `play` is called.

    Raises:
        MediaError: If the file cannot be read as audio.
    """

    kind = "audio"

    def __init__(
        self, path: str | Path, *, lead_s: float = 0.0, paused: bool = False
    ) -> None:
        super().__init__()
        self._paused = paused
        self._frames = _read_frames(Path(path))
        self._lead = round(lead_s * _RTP_RATE / _PUBLISHED_FRAME)
        self._sent = 0
        self._started_at: float | None = None
        self._done = Signal()
        self.finished = False
        """Whether the whole file was played."""
        self.first_voiced_at: float | None = None
        """When the first voiced frame was handed out, on the event loop's clock."""

    def play(self) -> None:
        """Go on with the file, if it was paused."""
        self._paused = False

    async def wait_finished(self) -> None:
        """Wait until the whole file was played; one waiter."""
        while not self.finished:
            await self._done.wait()

    async def recv(self) -> av.AudioFrame:
        """Return the next 20 ms at its time (called by the sender)."""
        now = anyio.current_time()
        if self._started_at is None:
            self._started_at = now
        due = self._started_at + self._sent * _PUBLISHED_FRAME / _RTP_RATE
        if due > now:
            await anyio.sleep(due - now)
        samples = self._next_samples()
        if self.first_voiced_at is None and np.abs(samples).max() >= _VOICED_LEVEL:
            self.first_voiced_at = anyio.current_time()
        frame = av.AudioFrame.from_ndarray(
            samples.reshape(1, -1), format="s16", layout="mono"
        )
        frame.sample_rate = _RTP_RATE
        frame.pts = self._sent * _PUBLISHED_FRAME
        frame.time_base = fractions.Fraction(1, _RTP_RATE)
        self._sent += 1
        return frame

    def _next_samples(self) -> npt.NDArray[np.int16]:
        silence = np.zeros(_PUBLISHED_FRAME, np.int16)
        if self._paused or self.finished:
            return silence
        if self._lead > 0:
            self._lead -= 1
            return silence
        samples = next(self._frames, None)
        if samples is None:
            self.finished = True
            self._done.set()
            return silence
        return samples


def _read_frames(path: Path) -> Iterator[npt.NDArray[np.int16]]:
    """Return the file's audio as 20 ms frames, int16, shape `(960,)`, 48 kHz mono."""
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as exc:
        raise MediaError(f"cannot read {path}: {exc}") from exc
    if not container.streams.audio:
        container.close()
        raise MediaError(f"{path} holds no audio")
    return _decode_frames(container)


def _decode_frames(
    container: av.container.InputContainer,
) -> Iterator[npt.NDArray[np.int16]]:
    resampler = av.AudioResampler(
        format="s16", layout="mono", rate=_RTP_RATE, frame_size=_PUBLISHED_FRAME
    )
    with container:
        for decoded in container.decode(audio=0):
            for frame in resampler.resample(decoded):
                yield frame.to_ndarray().reshape(-1).astype(np.int16, copy=False)
        for frame in resampler.resample(None):
            tail = frame.to_ndarray().reshape(-1)
            padded = np.zeros(_PUBLISHED_FRAME, np.int16)
            padded[: len(tail)] = tail
            yield padded
