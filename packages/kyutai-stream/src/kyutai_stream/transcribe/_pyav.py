# SPDX-License-Identifier: MIT
"""Decode any audio file through PyAV (FFmpeg); loaded only where it is installed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler

from ..audio import MODEL_RATE, AudioFormat
from ..errors import AudioFormatError
from .decoding import BLOCK_S, Block, _FileDecoder

__all__ = ["PyavDecoder"]


class PyavDecoder(_FileDecoder):
    """The first audio track of a file, mixed down to mono float32.

    The rate stays the file's own: the session's resampler aliases less.
    """

    def __init__(self, file: Any, name: str, interrupted: threading.Event) -> None:
        super().__init__(file, name, interrupted)
        try:
            self._container = av.open(file, mode="r", metadata_errors="replace")
        except (av.error.FFmpegError, EOFError, ValueError) as exc:
            raise AudioFormatError(f"{name} is no audio that can be read") from exc
        try:
            self._setup()
        except BaseException:
            self._container.close()
            raise

    def _setup(self) -> None:
        if not self._container.streams.audio:
            raise AudioFormatError(f"{self._name} has no audio track")
        stream = self._container.streams.audio[0]
        rate = stream.rate or MODEL_RATE
        try:
            self.format = AudioFormat(sample_rate=rate)
        except ValueError:
            self.format = AudioFormat(sample_rate=MODEL_RATE)
        self._resampler = AudioResampler(
            format="flt", layout="mono", rate=self.format.sample_rate
        )
        self.duration_s: float | None = None
        if stream.duration is not None and stream.time_base is not None:
            self.duration_s = float(stream.duration * stream.time_base)
        elif self._container.duration is not None:
            self.duration_s = self._container.duration / av.time_base
        self._decoded = self._pieces(stream)
        self._done_s = 0.0

    def _pieces(self, stream: av.AudioStream) -> Iterator[Block]:
        for frame in self._container.decode(stream):
            for part in self._resampler.resample(frame):
                yield part.to_ndarray()[0]
        for part in self._resampler.resample(None):
            yield part.to_ndarray()[0]

    def _read(self) -> Block | None:
        wanted = round(BLOCK_S * self.format.sample_rate)
        pieces: list[Block] = []
        have = 0
        try:
            while have < wanted and (piece := next(self._decoded, None)) is not None:
                pieces.append(piece)
                have += len(piece)
        except (av.error.FFmpegError, EOFError) as exc:
            # An interrupted pipe ends in the middle of a packet.
            if self._interrupted.is_set():
                return None
            raise AudioFormatError(
                f"{self._name} cannot be decoded after {self._done_s:.1f} s"
            ) from exc
        if not pieces:
            return None
        self._done_s += have / self.format.sample_rate
        block: Block = np.concatenate(pieces).clip(-1.0, 1.0)
        return block

    def _close(self) -> None:
        self._container.close()
