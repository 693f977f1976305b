# SPDX-License-Identifier: MIT
"""Audio in and out: what a chunk is, aiortc's frames to chunks, files to tracks.

`FrameConverter` serves streams whose packets cannot be had: audio through aiortc's
own jitter buffer and decoder. Resampling keeps its state across frames (FFmpeg's
resampler), so that there is no click at their borders.
"""

from __future__ import annotations

import fractions
import logging
import math
from collections.abc import Generator
from pathlib import Path

import anyio
import av
import av.error
import numpy as np
import numpy.typing as npt
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from attrs import field, frozen

from ..errors import MediaError

__all__ = ["SAMPLE_RATE", "AudioChunk", "AudioFile", "FrameConverter"]

_log = logging.getLogger("spreed_signaling.media")

SAMPLE_RATE = 24_000
"""Hz. What Kyutai's models hear; enough for any speech recogniser."""

_RTP_RATE = 48_000
"""Hz. Opus over RTP counts at this rate whatever the encoder did (RFC 7587)."""

_LONGEST_JUMP_S = 10
"""A timestamp jump beyond this is a sender that counts anew: the time of arrival
tells what is missing, not the timestamp."""

_PUBLISHED_FRAME = 960
"""Samples at 48 kHz: 20 ms, what WebRTC clients send."""

_LATEST_S = 0.5
"""A track that is asked later than this goes on where it was, instead of sending
everything at once."""

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
    concealed_ms: float = 0.0
    """How much of it was lost and is recovered or guessed from what is around it."""
    audio_level: int | None = None
    """Loudest level that the sender stated for its packets, dBov (-127 silence to 0,
    RFC 6464); None if it states none."""

    @property
    def level_dbfs(self) -> float:
        """Mean level, dB of full scale; a full-scale square wave has 0."""
        count = len(self.samples)
        energy = float(np.dot(self.samples, self.samples)) / count if count else 0.0
        return 10 * math.log10(energy) if energy > 0 else -math.inf


class FrameConverter:
    """Turns decoded WebRTC frames into mono float32 chunks.

    One converter makes one timeline, across peer connections: samples and gaps
    handed out add up to media time. The resampler holds back up to 1 ms.

    Args:
        sample_rate: Of the chunks, Hz.
    """

    def __init__(self, sample_rate: int = SAMPLE_RATE) -> None:
        self._rate = sample_rate
        self._resampler: av.AudioResampler | None = None
        self._input: tuple[str, str, int] | None = None
        self._position = 0
        self._pending_gap = 0
        self._remainder = 0
        self._expected_pts: int | None = None
        self._heard_at: float | None = None

    def restart(self) -> None:
        """The next frame comes from a new stream with timestamps of its own."""
        self._expected_pts = None

    def convert(self, frame: av.AudioFrame, now: float) -> AudioChunk:
        """Convert one frame; the chunk may be empty while the resampler fills.

        Args:
            frame: Any format, layout and rate, `pts` counting samples.
            now: When it arrived, monotonic seconds.
        """
        self._pending_gap += self._gap_before(frame, now)
        parts = self._prepare(frame)
        assert self._resampler is not None, "prepared right above"
        parts += _arrays(self._resampler.resample(frame))
        samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        gap = self._pending_gap if len(samples) else 0
        self._pending_gap -= gap
        start = self._position + gap
        self._position = start + len(samples)
        return AudioChunk(
            samples=samples,
            sample_rate=self._rate,
            media_time_s=start / self._rate,
            gap_samples=gap,
        )

    def _prepare(self, frame: av.AudioFrame) -> list[npt.NDArray[np.float32]]:
        """Fit the resampler to the frame; returns what an earlier one held back."""
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind == self._input:
            return []
        before = self._resampler
        self._input = kind
        # All channels are kept: FFmpeg's mix to mono is not an average, it would
        # make two equal channels 3 dB too loud.
        self._resampler = av.AudioResampler(
            format="flt", layout=frame.layout.name, rate=self._rate
        )
        return [] if before is None else _arrays(before.resample(None))

    def _gap_before(self, frame: av.AudioFrame, now: float) -> int:
        """Samples of ours that are missing before this frame."""
        rate = frame.sample_rate
        since_s = 0.0 if self._heard_at is None else now - self._heard_at
        is_first = self._heard_at is None
        expected, pts = self._expected_pts, frame.pts
        self._heard_at = now
        self._expected_pts = None if pts is None else pts + frame.samples
        if is_first:
            return 0
        missing = None if expected is None or pts is None else pts - expected
        if missing is None or not 0 <= missing <= _LONGEST_JUMP_S * rate:
            return max(0, round((since_s - frame.samples / rate) * self._rate))
        scaled = missing * self._rate + self._remainder
        gap, self._remainder = divmod(scaled, rate)
        return gap


def _arrays(frames: list[av.AudioFrame]) -> list[npt.NDArray[np.float32]]:
    """Average the channels of interleaved float frames."""
    return [
        frame.to_ndarray()
        .reshape(-1, frame.layout.nb_channels)
        .mean(axis=1, dtype=np.float32)
        for frame in frames
    ]


class AudioFile(MediaStreamTrack):
    """A track that plays a file in real time, then silence until stopped.

    Silence afterwards keeps the stream alive, as a microphone does. If nobody
    asks for audio for a while, as during a reconnect, it goes on where it was.

    Args:
        path: Anything FFmpeg reads.
        lead_s: Silence before the file, seconds.
        paused: Whether to send silence until `resume` is called.

    Raises:
        MediaError: If the file cannot be read as audio.
    """

    kind = "audio"

    def __init__(
        self, path: str | Path, *, lead_s: float = 0.0, paused: bool = False
    ) -> None:
        super().__init__()
        self._path = Path(path)
        self._container = _open_audio(self._path)
        self._frames = _decode_frames(self._container)
        self._lead = round(lead_s * _RTP_RATE / _PUBLISHED_FRAME)
        self._sent = 0
        self._started_at: float | None = None
        self._ended = anyio.Event()
        self.paused = paused
        """Whether the file waits; silence is sent meanwhile."""
        self.finished = False
        """Whether the whole file was played."""
        self.error: MediaError | None = None
        """Why the file ended before its end, if it could not be read further."""
        self.first_voiced_at: float | None = None
        """When the first voiced frame was handed out, on the event loop's clock."""

    def resume(self) -> None:
        """Let a paused file begin or go on; `lead_s` counts from the beginning."""
        self.paused = False

    def stop(self) -> None:
        """Stop the track and close the file."""
        super().stop()
        self._frames.close()
        # A generator that has not begun cleans nothing up.
        self._container.close()
        self._ended.set()

    async def wait_finished(self) -> None:
        """Wait until the whole file was played, or the track was stopped.

        Cancellation-safe; any number of tasks may wait.

        Raises:
            MediaError: If the file could not be read to its end.
        """
        await self._ended.wait()
        if self.error is not None:
            raise self.error

    async def recv(self) -> av.AudioFrame:
        """Return the next 20 ms at its time (called by the sender).

        Raises:
            MediaStreamError: If the track was stopped.
        """
        await self._wait_for_turn()
        if self.readyState != "live":
            raise MediaStreamError
        samples = self._next_samples()
        if self.first_voiced_at is None and np.abs(samples).max() >= _VOICED_LEVEL:
            self.first_voiced_at = anyio.current_time()
        # Two equal channels, because aiortc's encoder makes two of one, at -3 dB.
        interleaved = np.repeat(samples, 2).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout="stereo")
        frame.sample_rate = _RTP_RATE
        frame.pts = self._sent * _PUBLISHED_FRAME
        frame.time_base = fractions.Fraction(1, _RTP_RATE)
        self._sent += 1
        return frame

    async def _wait_for_turn(self) -> None:
        now = anyio.current_time()
        played_s = self._sent * _PUBLISHED_FRAME / _RTP_RATE
        if self._started_at is None or now - self._started_at - played_s > _LATEST_S:
            self._started_at = now - played_s
        due = self._started_at + played_s
        if due > now:
            await anyio.sleep(due - now)

    def _next_samples(self) -> npt.NDArray[np.int16]:
        silence = np.zeros(_PUBLISHED_FRAME, np.int16)
        if self.paused or self._ended.is_set():
            return silence
        if self._lead > 0:
            self._lead -= 1
            return silence
        try:
            samples = next(self._frames, None)
        except (av.error.FFmpegError, OSError, ValueError) as exc:
            # The track itself must live on: its sender cannot tell anybody.
            self.error = MediaError(f"cannot read {self._path} to its end: {exc}")
            _log.warning("%s", self.error)
            samples = None
        if samples is None:
            self.finished = self.error is None
            self._ended.set()
            return silence
        return samples


def _open_audio(path: Path) -> av.container.InputContainer:
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as exc:
        raise MediaError(f"cannot read {path} as audio: {exc}") from exc
    if not container.streams.audio:
        container.close()
        raise MediaError(f"{path} holds no audio")
    return container


def _decode_frames(
    container: av.container.InputContainer,
) -> Generator[npt.NDArray[np.int16], None, None]:
    """Yield the audio as 20 ms frames, int16, shape `(960,)`, 48 kHz mono."""
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
