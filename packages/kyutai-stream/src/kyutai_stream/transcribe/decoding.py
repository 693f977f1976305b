# SPDX-License-Identifier: MIT
"""Decode audio files and pipes, a block at a time, never a whole file in memory.

Everything here blocks and belongs in a worker thread; see `files` for that.
"""

from __future__ import annotations

import importlib.util
import io
import os
import select
import stat
import threading
import wave
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from ..audio import AudioFormat
from ..errors import AudioFormatError, BackendUnavailable

__all__ = ["BLOCK_S", "Block", "Decoder", "open_decoder"]

BLOCK_S = 0.5
"""Most seconds of audio in a block."""

POLL_S = 0.1
"""How soon a reader that waits for a pipe notices that it shall stop."""

Block = npt.NDArray[Any]
"""int16 or float32, shape `(n,)` or `(n, channels)`."""


class Decoder(Protocol):
    """An open source of audio; used by one thread at a time."""

    @property
    def format(self) -> AudioFormat:
        """Rate of the blocks, and how raw bytes are read."""

    @property
    def duration_s(self) -> float | None:
        """Seconds in all, where the file says so."""

    def read(self) -> Block | None:
        """Decode the next block; waits for pipes. None at the end or once interrupted.

        Raises:
            AudioFormatError: If the rest cannot be decoded.
        """

    def interrupt(self) -> None:
        """Let a waiting `read` return within 0.1 s; for other threads."""

    def close(self) -> None:
        """Close, after a running `read` if there is one."""


def open_decoder(
    path: str | os.PathLike[str] | int,
    interrupted: threading.Event | None = None,
    *,
    raw: AudioFormat | None = None,
) -> Decoder:
    """Open a file or pipe.

    Args:
        path: Path, or the descriptor of a pipe, which is not closed.
        interrupted: Set by others to stop waiting for a pipe.
        raw: How to read samples without header; None for a file that says it.

    Raises:
        OSError: If it cannot be opened.
        AudioFormatError: If it is no audio.
        BackendUnavailable: If PyAV is needed and missing (extra `cli`).
    """
    interrupted = interrupted or threading.Event()
    name = "standard input" if isinstance(path, int) else os.fspath(path)
    file = _open_file(path, interrupted)
    try:
        if raw is not None:
            return _RawDecoder(file, name, interrupted, raw)
        if importlib.util.find_spec("av") is not None:
            from ._pyav import PyavDecoder

            return PyavDecoder(file, name, interrupted)
        return _WaveDecoder(file, name, interrupted)
    except BaseException:
        file.close()
        raise


class _PipeReader(io.RawIOBase):
    """Reads a pipe, terminal or socket, but only until interrupted."""

    def __init__(self, fd: int, interrupted: threading.Event, *, own: bool) -> None:
        self._fd = fd
        self._interrupted = interrupted
        self._own = own

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._interrupted.is_set():
            ready, _, _ = select.select([self._fd], [], [], POLL_S)
            if ready:
                data = os.read(self._fd, len(buffer))
                buffer[: len(data)] = data
                return len(data)
        return 0

    def close(self) -> None:
        if self._own and not self.closed:
            os.close(self._fd)
        super().close()


def _open_file(
    path: str | os.PathLike[str] | int, interrupted: threading.Event
) -> BinaryIO | _PipeReader:
    if isinstance(path, int):
        if stat.S_ISREG(os.fstat(path).st_mode):
            return open(path, "rb", closefd=False)
        return _PipeReader(path, interrupted, own=False)
    kind = os.stat(path).st_mode
    if not stat.S_ISFIFO(kind) and not stat.S_ISCHR(kind):
        return open(path, "rb")
    # Without O_NONBLOCK opening would wait for a writer, deaf to everything.
    return _PipeReader(
        os.open(path, os.O_RDONLY | os.O_NONBLOCK), interrupted, own=True
    )


class _FileDecoder:
    """What the decoders below and `_pyav` share."""

    def __init__(self, file: Any, name: str, interrupted: threading.Event) -> None:
        self._file = file
        self._name = name
        self._interrupted = interrupted
        self._reading = threading.Lock()
        self._closed = False

    def interrupt(self) -> None:
        self._interrupted.set()

    def read(self) -> Block | None:
        with self._reading:
            if self._closed or self._interrupted.is_set():
                return None
            return self._read()

    def close(self) -> None:
        with self._reading:
            if not self._closed:
                self._closed = True
                self._close()
                self._file.close()

    def _read(self) -> Block | None:
        raise NotImplementedError

    def _close(self) -> None:
        """Close what lies on top of the file."""


class _RawDecoder(_FileDecoder):
    duration_s: float | None = None

    def __init__(
        self, file: Any, name: str, interrupted: threading.Event, format: AudioFormat
    ) -> None:
        super().__init__(file, name, interrupted)
        self.format = format
        self._dtype = np.dtype("<f4" if format.encoding == "f32le" else "<i2")
        self._unit = self._dtype.itemsize * format.channels
        self._rest = b""
        size = os.fstat(file.fileno()).st_size if hasattr(file, "peek") else 0
        if size:
            self.duration_s = size / self._unit / format.sample_rate

    def _read(self) -> Block | None:
        size = round(BLOCK_S * self.format.sample_rate) * self._unit
        while True:
            data = self._rest + (self._file.read(size) or b"")
            if len(data) == len(self._rest):
                break
            whole = len(data) // self._unit * self._unit
            self._rest = data[whole:]
            if whole:
                samples: Block = np.frombuffer(data[:whole], dtype=self._dtype)
                samples = samples.astype(self._dtype.newbyteorder("="), copy=False)
                return samples.reshape(-1, self.format.channels)
        if self._rest and not self._interrupted.is_set():
            raise AudioFormatError(
                f"{self._name} ends within a sample: {len(self._rest)} bytes left over"
                f" ({self.format.encoding}, {self.format.channels} channels)"
            )
        return None


class _WaveDecoder(_FileDecoder):
    def __init__(self, file: Any, name: str, interrupted: threading.Event) -> None:
        super().__init__(file, name, interrupted)
        # Its header comes in pieces from a pipe; wave expects full reads.
        stream = io.BufferedReader(file) if isinstance(file, _PipeReader) else file
        try:
            self._wave = wave.open(stream, "rb")
        except (wave.Error, EOFError) as exc:
            raise BackendUnavailable(
                f"{name} is no PCM WAV file; other formats need PyAV:"
                " pip install 'kyutai-stream[cli]'"
            ) from exc
        if self._wave.getsampwidth() != 2:
            raise BackendUnavailable(
                f"{name} has {8 * self._wave.getsampwidth()}-bit samples; without PyAV"
                " only 16-bit WAV can be read: pip install 'kyutai-stream[cli]'"
            )
        self.format = _format(self._wave.getframerate(), name)
        self.duration_s: float | None = (
            self._wave.getnframes() / self.format.sample_rate
        )

    def _read(self) -> Block | None:
        data = self._wave.readframes(round(BLOCK_S * self.format.sample_rate))
        if not data:
            return None
        unit = 2 * self._wave.getnchannels()
        whole = len(data) // unit * unit
        samples: Block = np.frombuffer(data[:whole], dtype="<i2").astype(np.int16)
        return samples.reshape(-1, self._wave.getnchannels())

    def _close(self) -> None:
        self._wave.close()


def _format(sample_rate: int, name: str) -> AudioFormat:
    try:
        return AudioFormat(sample_rate=sample_rate)
    except ValueError as exc:
        raise AudioFormatError(
            f"{name} has {sample_rate} samples per second: PyAV is needed to read it"
        ) from exc
