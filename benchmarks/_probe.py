# SPDX-License-Identifier: MIT
"""A backend around the real one that notes when frames were handed to the socket.

Which frame it is, its audio says: the benchmark speaks a ramp whose values count the
samples, and a resampler with a linear phase leaves a ramp as it is.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import anyio
import numpy as np
import numpy.typing as npt

from kyutai_stream.backend import (
    Capabilities,
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Frame,
)
from kyutai_stream.backends.moshi_server import MoshiServerBackend

from ._encodings import ENCODERS, Encoder, Encoding

__all__ = ["ProbeBackend", "ramp"]

SCALE = 1 << 23
"""The ramp grows by 1 in so many samples of 24 000 Hz: single floats hold each step
exactly, and it stays below 1.0 for `LONGEST_S`."""

LONGEST_S = 340.0
"""Longest ramp that is audio."""


def ramp(seconds: float, rate: int) -> npt.NDArray[np.float32]:
    """Audio that says where it is: float32, shape `(seconds * rate,)`."""
    if seconds > LONGEST_S:
        raise ValueError(f"a ramp lasts {LONGEST_S:g} s at most")
    count = np.arange(round(seconds * rate), dtype=np.float64)
    samples: npt.NDArray[np.float32] = (count * 24_000 / rate / SCALE).astype(
        np.float32
    )
    return samples


class TimedEncoder:
    """Counts the CPU time of another encoder."""

    def __init__(self, inner: Encoder) -> None:
        self._inner = inner
        self.cpu_s = 0.0
        """Used so far."""

    def encode(self, frame: Frame) -> bytes:
        begin = time.thread_time()
        message = self._inner.encode(frame)
        self.cpu_s += time.thread_time() - begin
        return message


class ProbeConnection:
    """Passes everything on; notes the end of each frame and when it was sent."""

    def __init__(self, inner: Connection, sent: list[tuple[int, float]]) -> None:
        self._inner = inner
        self._sent = sent

    async def send(self, frame: Frame) -> None:
        await self._inner.send(frame)
        self._sent.append((round(float(frame[-1]) * SCALE), anyio.current_time()))

    async def request_flush(self, token: int) -> None:
        await self._inner.request_flush(token)

    async def reset(self) -> None:
        await self._inner.reset()

    async def keepalive(self) -> None:
        await self._inner.keepalive()

    def __aiter__(self) -> AsyncIterator[ConnectionEvent]:
        return self._inner.__aiter__()


class ProbeBackend:
    """`moshi-server` with a probe, and with another encoding if wanted."""

    def __init__(self, url: str, encoding: Encoding) -> None:
        self._inner = MoshiServerBackend(url=url)
        self.encoder = TimedEncoder(ENCODERS[encoding]())
        """What its connections encode with."""
        self.name = self._inner.name
        self.description = self._inner.description
        self.sent: list[tuple[int, float]] = []
        """For each frame: position of its last sample (24 000 Hz), loop seconds."""

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    @asynccontextmanager
    async def connect(
        self, request: ConnectRequest
    ) -> AsyncGenerator[Connection, None]:
        async with self._inner.connect(request) as inner:
            # There is no setting for that: nobody but a benchmark wants one.
            inner._encoder = self.encoder  # type: ignore[attr-defined]
            yield ProbeConnection(inner, self.sent)
