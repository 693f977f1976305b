# SPDX-License-Identifier: MIT
"""Files and pipes as sources of a transcription.

Reading and decoding run in worker threads, half a second of audio at a time.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread

from ..audio import AudioFormat
from ..errors import ConfigError
from ..session import Session
from ._feed import Clock, FeedSource, OpenSource
from .decoding import Block, Decoder, open_decoder

__all__ = ["STDIN", "file_source", "raw_source"]

STDIN = 0
"""File descriptor of standard input."""

PACED_PIECE_S = 0.02
"""Pieces of a paced file, as WebRTC would bring them."""


def file_source(path: str | os.PathLike[str] | int, *, pace: float = 0.0) -> OpenSource:
    """Make a source of a file in any format that can be read.

    Args:
        path: Path, or the descriptor of a pipe, which is not closed.
        pace: As for `transcribe_file`.

    Raises:
        ConfigError: If the pace is negative or no number.
    """
    return _source(partial(open_decoder, path), pace)


def raw_source(
    path: str | os.PathLike[str] | int, format: AudioFormat, *, pace: float = 0.0
) -> OpenSource:
    """Make a source of samples without any header.

    Args:
        path: Path, or the descriptor of a pipe, which is not closed.
        format: How to read the bytes.
        pace: As for `transcribe_file`.

    Raises:
        ConfigError: If the pace is negative or no number.
    """
    return _source(partial(open_decoder, path, raw=format), pace)


def _source(open_it: Callable[[threading.Event], Decoder], pace: float) -> OpenSource:
    if not 0.0 <= pace < math.inf:
        raise ConfigError(f"pace must be 0 or more, not {pace:g}")

    @asynccontextmanager
    async def opened() -> AsyncGenerator[FeedSource, None]:
        decoder = await _open(open_it)
        try:
            yield FeedSource(
                feed=partial(_feed, decoder, pace),
                format=decoder.format,
                duration_s=decoder.duration_s,
                live=pace > 0,
            )
        finally:
            decoder.interrupt()
            # Bounded: a waiting read wakes up, decoding a block takes moments.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(decoder.close)

    return opened


async def _open(open_it: Callable[[threading.Event], Decoder]) -> Decoder:
    # Opening waits for the first bytes of a pipe. When cancelled meanwhile, the
    # thread is left alone: it stops waiting, or closes what it has opened.
    interrupted = threading.Event()

    def open_unless_interrupted() -> Decoder:
        decoder = open_it(interrupted)
        if interrupted.is_set():
            decoder.close()
        return decoder

    try:
        return await anyio.to_thread.run_sync(
            open_unless_interrupted, abandon_on_cancel=True
        )
    except anyio.get_cancelled_exc_class():
        interrupted.set()
        raise


async def _feed(decoder: Decoder, pace: float, session: Session, clock: Clock) -> None:
    rate = decoder.format.sample_rate
    started_at = clock.start()
    pushed = 0
    while True:
        block = await anyio.to_thread.run_sync(decoder.read, abandon_on_cancel=True)
        if block is None:
            return
        for piece in _pieces(block, rate, pace):
            pushed += len(piece)
            if pace:
                # When a microphone would have it: after its last sample.
                await anyio.sleep_until(started_at + pushed / rate / pace)
            await session.push(piece)
            clock.position_s = pushed / rate


def _pieces(block: Block, rate: int, pace: float) -> list[Block]:
    if not pace:
        return [block]
    step = max(1, round(PACED_PIECE_S * rate))
    return [block[begin : begin + step] for begin in range(0, len(block), step)]
