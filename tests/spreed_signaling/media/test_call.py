"""Speech published by a user is heard by a bot, on every kind of server."""

from __future__ import annotations

import wave
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import numpy as np
import numpy.typing as npt

from spreed_signaling import InCallFlags, InternalAuth, connect
from spreed_signaling.media import AudioFile, Call, Speaker
from spreed_signaling.testing import Site

SPEECH_RATE = 24_000


def write_sweep(path: Path, seconds: float = 3.0) -> npt.NDArray[np.float32]:
    """A rising tone with a beat: enough structure to find its place by correlation."""
    t = np.arange(round(seconds * SPEECH_RATE)) / SPEECH_RATE
    tone = 0.4 * np.sin(2 * np.pi * (200 * t + 150 * t**2)) * (1 + np.sin(9 * t)) / 2
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SPEECH_RATE)
        file.writeframes((tone * 32767).astype("<i2").tobytes())
    return tone.astype(np.float32)


async def hear(speaker: Speaker, samples: int) -> npt.NDArray[np.float32]:
    """Collect this much of a speaker's audio, gaps as zeros, in media time."""
    heard = np.zeros(samples, np.float32)
    position = 0
    async for chunk in speaker.audio():
        position += chunk.gap_samples
        assert round(chunk.media_time_s * SPEECH_RATE) == position
        part = chunk.samples[: max(0, samples - position)]
        heard[position : position + len(part)] = part
        position += len(chunk.samples)
        if position >= samples:
            break
    return heard


def best_match(heard: npt.NDArray[np.float32], sent: npt.NDArray[np.float32]) -> float:
    """Highest normalised correlation over all delays."""
    spectrum = np.fft.rfft(heard, 2 * len(heard)) * np.conj(
        np.fft.rfft(sent, 2 * len(heard))
    )
    correlation = np.fft.irfft(spectrum)
    return float(correlation.max() / (np.linalg.norm(heard) * np.linalg.norm(sent)))


async def test_speech_reaches_the_bot(site: Site, tmp_path: Path) -> None:
    sent = write_sweep(tmp_path / "sweep.wav")
    nextcloud, url = site.nextcloud, site.server.url
    alice = nextcloud.add_member("demoroom", "alice", "Alice")
    bot_auth = InternalAuth(
        secret=site.server.internal_secret, backend_url=nextcloud.url
    )
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        client = await enter(connect(url, alice.auth))
        room = await enter(client.join("demoroom", nc_session_id=alice.nc_session_id))
        call = await enter(Call(room))
        bot = await enter(connect(url, bot_auth))
        bot_room = await enter(bot.join("demoroom"))
        bot_call = await enter(Call(bot_room))
        await nextcloud.join_call(
            alice, flags=InCallFlags.IN_CALL | InCallFlags.WITH_AUDIO
        )
        speaker = await anext(bot_call.speakers())
        assert speaker.participant.display_name == "Alice"
        assert speaker.participant.nc_session_id == alice.nc_session_id
        publication = await call.publish(AudioFile(tmp_path / "sweep.wav", lead_s=1.0))
        await publication.wait_connected()
        with anyio.fail_after(20):
            heard = await hear(speaker, 5 * SPEECH_RATE)
        assert best_match(heard, sent) > 0.7
        assert speaker.stats.requests == 1
