# SPDX-License-Identifier: MIT
"""Print the captions of a WAV file: `transcribe_wav.py FILE [--backend NAME]`."""

from __future__ import annotations

import argparse
import wave

import anyio

from kyutai_stream import AudioFormat, Final, Gap, Session, SessionOptions, open_session


async def push_file(session: Session, file: wave.Wave_read) -> None:
    """Push the whole file; `push` waits whenever the recogniser is behind."""
    while chunk := file.readframes(4000):
        await session.push(chunk)
    await session.end_input()


async def transcribe(path: str, backend: str | None) -> None:
    """Print every final caption with its time, and what was lost if anything."""
    with wave.open(path, "rb") as file:
        if file.getsampwidth() != 2:
            raise SystemExit("only 16-bit WAV files, please")
        format = AudioFormat(
            sample_rate=file.getframerate(),
            channels=file.getnchannels(),
            encoding="s16le",
        )
        options = SessionOptions(input_format=format)
        async with open_session(backend, language="en", options=options) as session:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(push_file, session, file)
                async for event in session:
                    match event:
                        case Final():
                            print(f"{event.start:7.2f}  {event.text}")  # noqa: T201 - its purpose
                        case Gap():
                            print(f"{event.start:7.2f}  [{event.reason}]")  # noqa: T201 - its purpose


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--backend", help="default: $KYUTAI_STREAM_BACKEND or activity")
    arguments = parser.parse_args()
    anyio.run(transcribe, arguments.file, arguments.backend)
