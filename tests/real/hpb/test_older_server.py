"""The oldest server that can be had with media: 1.2.4 of Debian's backports."""

from __future__ import annotations

import wave
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import numpy as np
import pytest

from spreed_signaling import InCallFlags, InternalAuth, connect
from spreed_signaling.media import AudioFile, Call, Speaker
from spreed_signaling.testing import StandInNextcloud
from spreed_signaling.testing.real import RealServers

ROOM = "demoroom"


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    path = tmp_path / "tone.wav"
    t = np.arange(5 * 24_000) / 24_000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24_000)
        file.writeframes(
            (0.4 * np.sin(2 * np.pi * 440 * t) * 32767).astype("<i2").tobytes()
        )
    return path


async def hear_tone(speaker: Speaker) -> None:
    """Listen until one second of the tone was heard."""
    loud = 0
    with anyio.fail_after(20):
        async for chunk in speaker.audio():
            loud += int((np.abs(chunk.samples) > 0.1).sum())
            # A sine of amplitude 0.4 is above 0.1 for 84 % of its time.
            if loud > 0.8 * 24_000:
                return


@pytest.mark.real
async def test_a_speaker_is_heard(real_available: None, tone: Path) -> None:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        nextcloud = await enter(StandInNextcloud())
        nextcloud.add_room(ROOM)
        server = await enter(
            RealServers(
                backend_url=nextcloud.url,
                backend_secret=nextcloud.backend_secret,
                hpb_version="bookworm-backports",
            )
        )
        assert server.version.startswith("1.")
        nextcloud.hpb_url = server.url
        alice = nextcloud.add_member(ROOM, "alice", "Alice")
        client = await enter(connect(server.url, alice.auth))
        room = await enter(client.join(ROOM, nc_session_id=alice.nc_session_id))
        call = await enter(Call(room))
        auth = InternalAuth(secret=server.internal_secret, backend_url=nextcloud.url)
        bot = await enter(connect(server.url, auth))
        bot_call = await enter(Call(await enter(bot.join(ROOM))))
        await nextcloud.join_call(
            alice, flags=InCallFlags.IN_CALL | InCallFlags.WITH_AUDIO
        )
        await call.publish(AudioFile(tone, lead_s=1.0))
        with anyio.fail_after(20):
            speaker = await anext(bot_call.speakers())
        await hear_tone(speaker)
        # Not before: the server may tell of the call before the member.
        assert speaker.participant.display_name == "Alice"
