# SPDX-License-Identifier: MIT
"""What feeds a session: an opened source of audio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
from attrs import define, frozen

from ..audio import AudioFormat, AudioInput
from ..session import Session

__all__ = ["Clock", "FeedSource", "OpenSource", "TimedAudio", "open_iterable"]

TimedAudio = AudioInput | tuple[AudioInput, float]
"""A chunk, or a chunk and the media time of its first sample in seconds."""


@define
class Clock:
    """Where a running source is; written by its feed, read by displays."""

    started_at: float | None = None
    """`anyio.current_time()` when media second 0 was due; None before."""
    position_s: float = 0.0
    """Media seconds pushed so far."""

    def start(self) -> float:
        """Note that media second 0 is due now; returns that time."""
        self.started_at = anyio.current_time()
        return self.started_at


@frozen(kw_only=True)
class FeedSource:
    """An open source of audio."""

    feed: Callable[[Session, Clock], Awaitable[None]]
    """Pushes all of it into a session; cancelling it means that no more is wanted."""
    format: AudioFormat | None = None
    """Format of what is pushed; None for the one in the session's options."""
    duration_s: float | None = None
    """Seconds in all, where that is known."""
    live: bool = True
    """Whether audio comes as it is spoken; False for a file read at full speed."""


OpenSource = Callable[[], AbstractAsyncContextManager[FeedSource]]
"""Opens a source; entering may raise `OSError` and the errors of this library."""


def open_iterable(audio: AsyncIterable[TimedAudio]) -> OpenSource:
    """Make a source of an async iterable, which stays its owner's to close.

    Args:
        audio: Chunks as `Session.push` takes them, or pairs of a chunk and its
            media time.
    """

    @asynccontextmanager
    async def opened() -> AsyncGenerator[FeedSource, None]:
        yield FeedSource(feed=feed)

    async def feed(session: Session, clock: Clock) -> None:
        clock.start()
        async for item in audio:
            samples, at = item if isinstance(item, tuple) else (item, None)
            await session.push(samples, at)

    return opened
