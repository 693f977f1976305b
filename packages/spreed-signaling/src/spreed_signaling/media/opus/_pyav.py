# SPDX-License-Identifier: MIT
"""PyAV's own decoder and resampler: the last resort."""

from __future__ import annotations

import av
import av.error
import numpy as np
import numpy.typing as npt

from ..rtp.opus_packet import read_packet
from ._contract import RATES

__all__ = ["AvDecoder"]

_RTP_RATE = 48_000


class AvDecoder:
    """PyAV's decoder and resampler, where no libopus can be loaded.

    The resampler holds back about a millisecond, which is given out as silence at
    the beginning, so that every packet yields exactly its duration.

    Args:
        sample_rate: One of `RATES`, Hz.

    Raises:
        ValueError: If it is another one.
    """

    can_conceal = False

    def __init__(self, sample_rate: int) -> None:
        if sample_rate not in RATES:
            raise ValueError(f"no Opus decoder for {sample_rate} Hz")
        self._rate = sample_rate
        self._ready: list[npt.NDArray[np.float32]] = []
        self.reset()

    def decode(self, payload: bytes, out: npt.NDArray[np.float32], at: int = 0) -> int:
        """See `Decoder`."""
        wanted = read_packet(payload).ticks * self._rate // _RTP_RATE
        if not 0 < wanted <= len(out) - at:
            return -1
        try:
            for frame in self._codec.decode(av.Packet(payload)):
                # Also FFmpeg's own decoder may have made two channels of one.
                for part in self._resampler.resample(frame):
                    self._ready.append(_mean(part))
        except (av.error.FFmpegError, ValueError, AssertionError):
            return -1
        ready = np.concatenate(self._ready)
        if len(ready) < wanted:
            # The decoder dropped something: keep the time.
            ready = np.concatenate([np.zeros(wanted - len(ready), np.float32), ready])
        out[at : at + wanted] = ready[:wanted]
        self._ready = [ready[wanted:]]
        return wanted

    def recover(
        self,
        following: bytes,
        out: npt.NDArray[np.float32],
        samples: int,
        at: int = 0,
    ) -> int:
        """See `Decoder`."""
        return 0

    def conceal(self, out: npt.NDArray[np.float32], samples: int, at: int = 0) -> int:
        """See `Decoder`."""
        return 0

    def reset(self) -> None:
        """See `Decoder`."""
        self._codec = _open_codec()
        self._resampler = av.AudioResampler(
            format="flt", layout="mono", rate=self._rate
        )
        delay = self._rate // 500
        self._ready = [np.zeros(delay, np.float32)]

    def close(self) -> None:
        """See `Decoder`."""
        self._ready = [np.zeros(0, np.float32)]


def _open_codec() -> av.AudioCodecContext:
    for name in ("libopus", "opus"):
        try:
            codec = av.AudioCodecContext.create(name, "r")
        except (av.error.FFmpegError, ValueError):
            continue
        codec.sample_rate = _RTP_RATE
        codec.layout = "mono"
        return codec
    raise ValueError("this PyAV cannot decode Opus")


def _mean(frame: av.AudioFrame) -> npt.NDArray[np.float32]:
    channels = frame.layout.nb_channels
    mixed: npt.NDArray[np.float32] = (
        frame.to_ndarray().reshape(-1, channels).mean(axis=1, dtype=np.float32)
    )
    return mixed
