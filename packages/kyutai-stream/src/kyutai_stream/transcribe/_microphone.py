# SPDX-License-Identifier: MIT
"""The microphone as a source, through sounddevice (PortAudio)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
from attrs import define, field

from ..audio import AudioFormat
from ..errors import BackendUnavailable
from ..session import Session
from ._feed import Clock, FeedSource, OpenSource

__all__ = ["microphone"]

BLOCK_S = 0.02

MOST_PENDING = 250
"""Blocks (5 s) on their way from PortAudio's thread to the event loop. A loop that
is stuck for longer loses the newest ones, which shows as a gap in the media time."""


def microphone(device: int | str | None = None) -> OpenSource:
    """Make a source of a microphone; it runs until it is stopped.

    Audio that the session has no room for is refused by `Session.try_push` and
    reported as a `Gap`: a microphone cannot wait.

    Args:
        device: Number or part of the name as sounddevice knows it; None for the
            system's default.

    Raises:
        BackendUnavailable: On opening, if sounddevice or PortAudio is missing, or
            there is no such microphone.
    """

    @asynccontextmanager
    async def opened() -> AsyncGenerator[FeedSource, None]:
        sounddevice = _load()
        try:
            found = await anyio.to_thread.run_sync(
                partial(sounddevice.query_devices, device, "input")
            )
            rate = int(found["default_samplerate"])
        except (sounddevice.PortAudioError, ValueError) as exc:
            raise BackendUnavailable(f"no microphone to listen to: {exc}") from exc
        feed = partial(_feed, sounddevice, device, rate)
        yield FeedSource(feed=feed, format=AudioFormat(sample_rate=rate))

    return opened


def _load() -> Any:
    try:
        import sounddevice
    except ImportError as exc:
        raise BackendUnavailable(
            "the microphone needs sounddevice: pip install 'kyutai-stream[mic]'"
        ) from exc
    except OSError as exc:
        raise BackendUnavailable(
            "the microphone needs the PortAudio library"
            " (Debian: apt install libportaudio2)"
        ) from exc
    return sounddevice


@define
class _Bridge:
    """Carries blocks from PortAudio's thread to the session."""

    session: Session
    clock: Clock
    loop: asyncio.AbstractEventLoop
    rate: int
    sent: int = 0
    taken: int = 0
    samples: int = 0
    failure: Exception | None = None
    failed: anyio.Event = field(factory=anyio.Event)

    def from_portaudio(self, data: Any, frames: int, *_: Any) -> None:
        # PortAudio's thread: copy, hand over, never wait.
        at = self.samples / self.rate
        self.samples += frames
        # Each counter has one writer, so no lock is needed.
        if self.sent - self.taken >= MOST_PENDING:
            return
        self.sent += 1
        block = np.array(data[:, 0], dtype=np.float32)
        try:
            self.loop.call_soon_threadsafe(self.push, block, at)
        except RuntimeError:
            # The loop has just been closed: nobody listens any more.
            self.sent = self.taken + MOST_PENDING

    def push(self, block: Any, at: float) -> None:
        self.taken += 1
        if self.failure is not None:
            return
        try:
            self.session.try_push(block, at)
            self.clock.position_s = at + len(block) / self.rate
        except Exception as exc:
            self.failure = exc
            self.failed.set()


async def _feed(
    sounddevice: Any,
    device: int | str | None,
    rate: int,
    session: Session,
    clock: Clock,
) -> None:
    bridge = _Bridge(session, clock, asyncio.get_running_loop(), rate)
    try:
        stream = sounddevice.InputStream(
            samplerate=rate,
            blocksize=round(BLOCK_S * rate),
            device=device,
            channels=1,
            dtype="float32",
            callback=bridge.from_portaudio,
        )
    except (sounddevice.PortAudioError, ValueError) as exc:
        raise BackendUnavailable(f"the microphone cannot be opened: {exc}") from exc
    with stream:
        clock.start()
        await bridge.failed.wait()
    if bridge.failure is not None:
        raise bridge.failure
