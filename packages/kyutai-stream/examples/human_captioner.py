# SPDX-License-Identifier: MIT
"""Caption a WAV file by typing: `human_captioner.py FILE [--pace 1.0]`.

Each line typed becomes captions at once, dated where the audio is then. End the
input (Ctrl-D) when you are done.
"""

from __future__ import annotations

import argparse
import sys
import wave
from collections.abc import AsyncIterator

import anyio

from kyutai_stream import (
    AudioFormat,
    Final,
    Partial,
    Session,
    SessionOptions,
    open_session,
)
from kyutai_stream.backends.replay import ReplayBackend

CHUNK_S = 0.1


class Keyboard:
    """Somebody who types lines on standard input."""

    def __init__(self) -> None:
        self.left = anyio.Event()

    async def lines(self, speaker: str) -> AsyncIterator[str]:
        """Yield what is typed, whoever speaks."""
        while line := await anyio.to_thread.run_sync(
            # Ctrl-C must not wait for another line.
            sys.stdin.readline,
            abandon_on_cancel=True,
        ):
            yield line
        # Only now have all words been taken.
        self.left.set()


async def play(
    session: Session, file: wave.Wave_read, pace: float, keyboard: Keyboard
) -> None:
    """Push the audio in time; end when the person who types has ended."""
    while chunk := file.readframes(round(CHUNK_S * file.getframerate())):
        await session.push(chunk)
        await anyio.sleep(CHUNK_S / pace)
    await keyboard.left.wait()
    await session.end_input()


async def caption(path: str, pace: float) -> None:
    """Print the captions as they grow and as they are closed."""
    keyboard = Keyboard()
    with wave.open(path, "rb") as file:
        options = SessionOptions(
            input_format=AudioFormat(
                sample_rate=file.getframerate(),
                channels=file.getnchannels(),
                encoding="s16le",
            )
        )
        backend = ReplayBackend(source=keyboard.lines, typing_delay_s=1.0)
        async with open_session(backend, speaker="file", options=options) as session:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(play, session, file, pace, keyboard)
                async for event in session:
                    match event:
                        case Partial():
                            print(f"        > {event.text}")  # noqa: T201 - its purpose
                        case Final():
                            print(f"{event.start:7.2f}  {event.text}")  # noqa: T201 - its purpose


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="16-bit WAV")
    parser.add_argument("--pace", type=float, default=1.0, help="times real time")
    arguments = parser.parse_args()
    anyio.run(caption, arguments.file, arguments.pace)
