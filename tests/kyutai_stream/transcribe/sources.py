"""Sources of audio, in memory and on disk, and what comes of them."""

from __future__ import annotations

import gc
import io
import os
import threading
import wave
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import numpy.typing as npt
import pytest

from kyutai_stream import (
    AudioFormat,
    Final,
    SessionEvent,
    Usage,
)
from kyutai_stream.testing import ConnectionScript, ScriptedBackend, ScriptedWord
from kyutai_stream.transcribe import (
    Transcription,
    open_decoder,
)

Samples = npt.NDArray[np.int16]

WORDS = ("one", "two", "three")


def scripted(**more: Any) -> ScriptedBackend:
    words = tuple(
        ScriptedWord(text=text, start=0.3 * n + 0.1, end=0.3 * n + 0.3)
        for n, text in enumerate(WORDS)
    )
    return ScriptedBackend(ConnectionScript(words=words, **more))


def text(events: list[SessionEvent]) -> str:
    return " ".join(event.text for event in events if isinstance(event, Final))


def usage(events: list[SessionEvent]) -> Usage:
    (found,) = (event for event in events if isinstance(event, Usage))
    return found


def hum(count: int) -> npt.NDArray[np.float32]:
    """Samples that are not quiet: a session may leave quiet ones out."""
    return np.tile(np.array([0.1, 0.1, -0.1, -0.1], dtype=np.float32), count // 4)


async def seconds(count: int) -> AsyncIterator[npt.NDArray[np.float32]]:
    for _ in range(10 * count):
        yield hum(2400)


async def everything(running: Transcription) -> list[SessionEvent]:
    async with running:
        return [event async for event in running]


async def endless_hum() -> AsyncIterator[npt.NDArray[np.float32]]:
    while True:
        yield hum(2400)
        await anyio.sleep(0.001)


class Collected:
    """Takes the place of a session: keeps what is pushed."""

    def __init__(self) -> None:
        self.pieces: list[npt.NDArray[Any]] = []
        self.at: list[float] = []

    async def push(self, piece: npt.NDArray[Any]) -> None:
        self.pieces.append(np.asarray(piece))
        self.at.append(anyio.current_time())


def read_all(path: Path | int, raw: AudioFormat | None = None) -> npt.NDArray[Any]:
    decoder = open_decoder(path, raw=raw)
    blocks = []
    try:
        while (block := decoder.read()) is not None:
            assert len(block) <= 0.7 * decoder.format.sample_rate
            blocks.append(block)
    finally:
        decoder.close()
    assert decoder.read() is None
    return np.concatenate(blocks)


def encode(path: Path, samples: Samples, codec: str, rate: int) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            samples[None, :], format="s16", layout="mono"
        )
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        resampler = av.AudioResampler(format=stream.codec_context.format, rate=rate)
        for part in resampler.resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


class pipe:
    """A pipe that brings these bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __enter__(self) -> int:
        readable, writable = os.pipe()

        def write() -> None:
            with io.FileIO(writable, "wb") as file:
                view = memoryview(self.data)
                while view:
                    view = view[file.write(view) :]

        self.readable = readable
        self.thread = threading.Thread(target=write)
        self.thread.start()
        return readable

    def __exit__(self, *_: object) -> None:
        self.thread.join()
        os.close(self.readable)
        gc.collect()


def write_wav(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams(
            (samples.shape[1] if samples.ndim == 2 else 1, 2, 16_000, 0, "NONE", "")
        )
        file.writeframes(samples.tobytes())
