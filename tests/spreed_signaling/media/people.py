"""People of a call: a bot that listens, users who speak."""

from __future__ import annotations

import wave
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import anyio
import numpy as np
import numpy.typing as npt
from attrs import frozen

from spreed_signaling import Client, InCallFlags, InternalAuth, Room, connect
from spreed_signaling.media import (
    SAMPLE_RATE,
    AudioChunk,
    AudioFile,
    Call,
    CallOptions,
    Publication,
    Speaker,
)
from spreed_signaling.testing import Member, StandInNextcloud

from ..harness import ROOM, SECRET

SPEAKING = InCallFlags.IN_CALL | InCallFlags.WITH_AUDIO


@frozen
class Person:
    """Somebody in the call."""

    client: Client
    room: Room
    call: Call


@asynccontextmanager
async def in_call(
    url: str,
    nextcloud: StandInNextcloud,
    member: Member | None = None,
    options: CallOptions | None = None,
) -> AsyncIterator[Person]:
    """Take part: as this member, who then is in the call with audio, or as a bot."""
    bot_auth = InternalAuth(secret=SECRET, backend_url=nextcloud.url)
    auth = bot_auth if member is None else member.auth
    nc_session_id = None if member is None else member.nc_session_id
    async with (
        connect(url, auth) as client,
        client.join(ROOM, nc_session_id=nc_session_id) as room,
        Call(room, options=options) as call,
    ):
        if member is not None:
            await nextcloud.join_call(member, flags=SPEAKING)
        yield Person(client, room, call)


def write_tone(path: Path, frequency: float, seconds: float = 60.0) -> Path:
    """A steady tone that is told from others by its frequency."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tone = 0.4 * np.sin(2 * np.pi * frequency * t)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((tone * 32767).astype("<i2").tobytes())
    return path


async def speak(person: Person, path: Path) -> Publication:
    publication = await person.call.publish(AudioFile(path))
    await publication.wait_connected()
    return publication


def pitch(samples: npt.NDArray[np.float32]) -> float:
    """The loudest frequency, Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * SAMPLE_RATE / len(samples))


class Listener:
    """Follows one speaker and checks the timeline as it goes."""

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.position = 0
        self.gaps = 0
        self.ended = anyio.Event()
        self._heard: list[npt.NDArray[np.float32]] = []
        self._more = anyio.Event()

    async def run(self) -> None:
        async with aclosing(self.speaker.audio()) as audio:
            async for chunk in audio:
                self._take(chunk)
        self.ended.set()

    def _take(self, chunk: AudioChunk) -> None:
        self.position += chunk.gap_samples
        self.gaps += chunk.gap_samples
        assert round(chunk.media_time_s * SAMPLE_RATE) == self.position
        self.position += len(chunk.samples)
        self._heard.append(chunk.samples)
        more, self._more = self._more, anyio.Event()
        more.set()

    async def wait_for_pitch(self, frequency: float, timeout_s: float = 20.0) -> None:
        """Wait until half a second that arrives from now on has this pitch."""
        start = len(self._heard)
        with anyio.fail_after(timeout_s):
            while True:
                await self._more.wait()
                heard = np.concatenate(self._heard[start:])
                if len(heard) < SAMPLE_RATE // 2:
                    continue
                found = pitch(heard[-SAMPLE_RATE // 2 :])
                if abs(found - frequency) < 5:
                    return
