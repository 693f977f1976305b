"""Calls against both kinds of server: who is heard, when, and what comes back."""

from __future__ import annotations

import wave
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import numpy as np
import numpy.typing as npt

from spreed_signaling import (
    Disconnected,
    InCallFlags,
    InternalAuth,
    RoomJoined,
    SessionResumed,
    connect,
)
from spreed_signaling.media import SAMPLE_RATE, AudioFile, Call, CallOptions, Speaker
from spreed_signaling.protocol.negotiation import SubscriptionOptions
from spreed_signaling.testing import ServerKind, Site

from ..harness import next_of, open_link, open_restartable, wait_until
from .people import SPEAKING, Listener, in_call, speak, write_tone

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
    return np.asarray(tone, np.float32)


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
        publication = await call.publish(AudioFile(tmp_path / "sweep.wav", lead_s=1.0))
        await publication.wait_connected()
        with anyio.fail_after(20):
            heard = await hear(speaker, 5 * SPEECH_RATE)
        # Not before: the server may tell of the call before the member.
        assert speaker.participant.display_name == "Alice"
        assert speaker.participant.nc_session_id == alice.nc_session_id
        assert best_match(heard, sent) > 0.7
        assert speaker.stats.requests == 1


async def test_two_speak_at_once_under_their_own_names(
    site: Site, tmp_path: Path
) -> None:
    nextcloud, url = site.nextcloud, site.server.url
    pitches = {"Alice": 440.0, "Bob": 1_000.0}
    async with AsyncExitStack() as stack:
        bot = await stack.enter_async_context(in_call(url, nextcloud))
        for name, frequency in pitches.items():
            member = nextcloud.add_member("demoroom", name.lower(), name)
            person = await stack.enter_async_context(in_call(url, nextcloud, member))
            await speak(person, write_tone(tmp_path / f"{name}.wav", frequency))
        async with anyio.create_task_group() as tasks:
            speakers = bot.call.speakers()
            with anyio.fail_after(15):
                listeners = [Listener(await anext(speakers)) for _ in pitches]
            for listener in listeners:
                tasks.start_soon(listener.run)

            def names() -> list[str]:
                people = bot.room.participants
                return [
                    people[one.speaker.session_id].display_name for one in listeners
                ]

            # They may come after the speakers.
            await wait_until(bot.client, lambda: set(names()) == set(pitches))
            for name, listener in zip(names(), listeners, strict=True):
                await listener.wait_for_pitch(pitches[name])
                assert listener.speaker.participant.display_name == name
                assert listener.speaker.stats.connected
            tasks.cancel_scope.cancel()


async def test_audio_ends_when_the_speaker_goes_and_comes_back_anew(
    site: Site, tmp_path: Path
) -> None:
    nextcloud, url = site.nextcloud, site.server.url
    alice = nextcloud.add_member("demoroom", "alice", "Alice")
    tone = write_tone(tmp_path / "tone.wav", 440)
    async with in_call(url, nextcloud) as bot, anyio.create_task_group() as tasks:
        speakers = bot.call.speakers()
        async with in_call(url, nextcloud, alice) as person:
            await speak(person, tone)
            first = Listener(await anext(speakers))
            tasks.start_soon(first.run)
            await first.wait_for_pitch(440)
            # Out of the call, but still in the room.
            await nextcloud.leave_call(alice)
            with anyio.fail_after(10):
                await first.ended.wait()
            await nextcloud.join_call(alice, flags=SPEAKING)
            with anyio.fail_after(10):
                second = Listener(await anext(speakers))
            assert second.speaker is not first.speaker
            assert second.speaker.session_id == first.speaker.session_id
            tasks.start_soon(second.run)
        # Left for good.
        with anyio.fail_after(10):
            await second.ended.wait()
        assert [one async for one in first.speaker.audio()] == []


async def test_audio_goes_on_over_a_cut_socket(site: Site, tmp_path: Path) -> None:
    nextcloud = site.nextcloud
    alice = nextcloud.add_member("demoroom", "alice", "Alice")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        link = await enter(open_link(site.server.url))
        person = await enter(in_call(site.server.url, nextcloud, alice))
        await speak(person, write_tone(tmp_path / "tone.wav", 440))
        bot = await enter(in_call(link.url, nextcloud))
        tasks = await enter(anyio.create_task_group())
        listener = Listener(await anext(bot.call.speakers()))
        tasks.start_soon(listener.run)
        await listener.wait_for_pitch(440)
        session_id, gaps = bot.client.session_id, listener.gaps
        with bot.client.subscribe() as events:
            link.refusing = True
            await link.cut()
            await next_of(events, Disconnected)
            # Without a connection, too.
            await listener.wait_for_pitch(440)
            link.refusing = False
            bot.client.retry_now()
            await next_of(events, SessionResumed)
        await listener.wait_for_pitch(440)
        assert bot.client.session_id == session_id
        assert listener.speaker.stats.requests == 1
        # Nothing is missing; an overloaded machine may lose packets, though.
        assert listener.gaps - gaps < SAMPLE_RATE
        tasks.cancel_scope.cancel()


async def test_everything_is_back_after_a_restart(
    server_kind: ServerKind, tmp_path: Path
) -> None:
    async with open_restartable(server_kind) as server, AsyncExitStack() as stack:
        enter, nextcloud = stack.enter_async_context, server.nextcloud
        alice = nextcloud.add_member("demoroom", "alice", "Alice")
        person = await enter(in_call(server.url, nextcloud, alice))
        await speak(person, write_tone(tmp_path / "tone.wav", 440))
        bot = await enter(in_call(server.url, nextcloud))
        tasks = await enter(anyio.create_task_group())
        speakers = bot.call.speakers()
        first = Listener(await anext(speakers))
        tasks.start_soon(first.run)
        await first.wait_for_pitch(440)
        with person.client.subscribe() as events:
            await server.stop()
            await server.start()
            await next_of(events, RoomJoined)
        # Nextcloud has to tell the new server who is in the call.
        await nextcloud.join_call(alice, flags=SPEAKING)
        with anyio.fail_after(20):
            await first.ended.wait()
            second = Listener(await anext(speakers))
        tasks.start_soon(second.run)
        await second.wait_for_pitch(440)
        assert second.speaker.participant.display_name == "Alice"
        tasks.cancel_scope.cancel()


async def test_a_publisher_that_starts_anew_is_found_again(
    site: Site, tmp_path: Path
) -> None:
    """Nobody announces that: only missing packets tell."""
    nextcloud, url = site.nextcloud, site.server.url
    alice = nextcloud.add_member("demoroom", "alice", "Alice")
    hasty = CallOptions(
        subscription=SubscriptionOptions(stall_s=1.0, longest_stall_s=2.0)
    )
    async with (
        in_call(url, nextcloud, alice) as person,
        in_call(url, nextcloud, options=hasty) as bot,
        anyio.create_task_group() as tasks,
    ):
        first = await speak(person, write_tone(tmp_path / "first.wav", 440))
        listener = Listener(await anext(bot.call.speakers()))
        tasks.start_soon(listener.run)
        await listener.wait_for_pitch(440)
        first.stop()
        await speak(person, write_tone(tmp_path / "second.wav", 1_000))
        await listener.wait_for_pitch(1_000, timeout_s=30)
        assert not listener.ended.is_set()
        assert listener.speaker.stats.requests >= 2
        # The time without audio shows.
        assert listener.gaps > 0
        tasks.cancel_scope.cancel()
