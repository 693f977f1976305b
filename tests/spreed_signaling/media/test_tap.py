"""Packets before aiortc's jitter buffer: the contract, and what is there without it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import aiortc
import anyio
import anyio.lowlevel
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from spreed_signaling import Participant, UsageError
from spreed_signaling.media import AudioFile, Speaker
from spreed_signaling.media import peer as peer_module
from spreed_signaling.media import tap as tap_module
from spreed_signaling.media.inlet import Inlet
from spreed_signaling.media.links import SubscriberLink
from spreed_signaling.media.receiver import AudioReceiver
from spreed_signaling.media.tap import (
    audio_level_id,
    opus_payload_types,
    tap_packets,
    why_not,
)
from spreed_signaling.protocol.negotiation import SubscriptionOptions

from .opus_streams import Packet, encode, voice
from .pairs import Received, loopback, until
from .people import Listener, write_tone


async def test_the_contract_with_this_aiortc(tmp_path: Path) -> None:
    """Fails when a new aiortc changes what the tap relies on."""
    async with loopback(tmp_path) as pair:
        assert pair.tapped, f"aiortc {aiortc.__version__}"
        ended = anyio.Event()
        frames: Received = []

        async def park() -> None:
            try:
                frames.append(await pair.tracks[0].recv())
            except MediaStreamError:
                ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(park)
            await until(lambda: len(pair.packets) >= 30)
            for packet in pair.packets:
                assert packet.payload_type in pair.peer.opus_payload_types
                assert packet.audio_level in range(-127, 1)
                assert isinstance(packet.payload, bytes) and packet.payload
            first, second = pair.packets[:2]
            assert (second.timestamp - first.timestamp) & 0xFFFFFFFF == 960
            assert (second.sequence_number - first.sequence_number) & 0xFFFF == 1
            assert second.ssrc == first.ssrc
            # The far end hears from us.
            with anyio.fail_after(40):
                while not await reports(pair.publisher):  # noqa: ASYNC110  # no event
                    await anyio.sleep(0.05)
            await pair.publisher.close()
            with anyio.fail_after(40):
                await ended.wait()
        assert not frames, "aiortc decoded what we had taken"


async def reports(pc: RTCPeerConnection) -> list[Any]:
    found = await pc.getStats()
    return [one for one in found.values() if one.type == "remote-inbound-rtp"]


def test_why_not_names_what_is_missing() -> None:
    class Gone:
        pass

    class Other:
        def __init__(self, buffer: object) -> None:
            setattr(self, tap_module._BUFFER, buffer)

        async def _handle_rtp_packet(self, packet: object) -> None: ...

    class Buffer:
        def add(self, packet: object) -> None: ...

    class OtherBuffer:
        def add(self, packet: object, more: object) -> None: ...

    for receiver, reason in [
        (Gone(), "__jitter_buffer"),
        (Other(object()), "no add"),
        (Other(OtherBuffer()), "other arguments"),
        (Other(Buffer()), "_handle_rtp_packet"),
    ]:
        told = why_not(receiver)  # type: ignore[arg-type]  # not aiortc's
        assert told is not None and reason in told
        assert tap_packets(receiver, print) == told  # type: ignore[arg-type]


def test_payload_types_of_an_offer() -> None:
    sdp = (
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0\r\na=rtpmap:111 OPUS/48000/2\r\n"
        "a=rtpmap:63 red/48000/2\r\na=rtpmap:0 PCMU/8000\r\n"
    )
    assert opus_payload_types(sdp) == {111}
    assert opus_payload_types("") == frozenset()


def test_the_number_of_the_audio_level() -> None:
    uri = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
    line = f"a=extmap:3/recvonly {uri} vad=on\r\n"
    assert audio_level_id(f"a=extmap:1 urn:ietf:x\r\n{line}{line}") == 3
    assert audio_level_id("") is None
    # Two bundled sections that disagree: nobody knows which one a packet follows.
    assert audio_level_id(f"{line}a=extmap:4 {uri}\r\n") is None


def make_speaker() -> Speaker:
    one = Participant(session_id="alice", display_name="Alice")
    return Speaker(one, lambda speaker: None, lambda speaker: None)


async def listen(path: Path, speaker: Speaker, frequency: float = 440) -> None:
    """Feed a speaker as a subscription does, until the tone is heard."""
    link = SubscriberLink(speaker, lambda signal: "1", (), SubscriptionOptions())
    source = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    audio = AudioFile(write_tone(path / "tone.wav", frequency))
    source.addTrack(audio)
    await source.setLocalDescription(await source.createOffer())
    listener = Listener(speaker)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.run)
        await anyio.lowlevel.checkpoint()
        link._open_peer("sid", tasks)
        assert link._peer is not None
        answer = await link._peer.answer(source.localDescription.sdp)
        speaker._receiver.payload_types = link._peer.opus_payload_types
        description = RTCSessionDescription(sdp=answer, type="answer")
        await source.setRemoteDescription(description)
        await listener.wait_for_pitch(frequency, 45)
        await link._close_peer()
        await source.close()
        speaker._end()
        with anyio.fail_after(40):
            await listener.ended.wait()
        tasks.cancel_scope.cancel()
    audio.stop()


async def test_a_speaker_is_heard_through_the_tap(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    speaker = make_speaker()
    await listen(tmp_path, speaker)
    assert "aiortc" not in caplog.text
    stats = speaker.stats
    assert stats.packets >= 25 and stats.lost == stats.errors == 0
    assert stats.jitter_s < 0.1 and stats.level_dbfs > -20


async def test_without_the_hook_audio_takes_aiortcs_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap_module, "why_not", lambda receiver: "it is not there")
    speaker = make_speaker()
    await listen(tmp_path, speaker)
    version = metadata.version("aiortc")
    assert f"aiortc {version}" in caplog.text and "it is not there" in caplog.text
    assert speaker.stats.packets == 0 and speaker.stats.received_s > 0.5


async def test_a_hook_without_effect_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_module, "tap_packets", lambda receiver, handler: None)
    speaker = make_speaker()
    await listen(tmp_path, speaker)
    assert caplog.text.count("decoded nevertheless") == 1
    assert speaker.stats.received_s > 0.5


async def test_another_rate_and_frame() -> None:
    speaker = make_speaker()
    stream = encode(voice(1.0))
    async with anyio.create_task_group() as tasks:
        chunks: Received = []

        async def consume() -> None:
            async for chunk in speaker.audio(sample_rate=16_000, frame_ms=30):
                chunks.append(chunk)

        tasks.start_soon(consume)
        await anyio.lowlevel.checkpoint()
        inlet = Inlet(speaker._receiver, lambda now: None)
        for index in range(len(stream.payloads)):
            inlet.take(stream.packet(index))
        inlet.close()
        speaker._end()
    assert [len(chunk.samples) for chunk in chunks[:-1]] == [480] * 33
    assert all(chunk.sample_rate == 16_000 for chunk in chunks)
    with pytest.raises(UsageError, match="whole number"):
        await anext(make_speaker().audio(sample_rate=16_000, frame_ms=0.01))
    with pytest.raises(UsageError, match="sample_rate"):
        await anext(make_speaker().audio(sample_rate=3_000, frame_ms=10))
    with pytest.raises(UsageError, match="at 48000 Hz"):
        # Whole at the rate that is wanted, but not at the one it comes from.
        await anext(make_speaker().audio(sample_rate=32_000, frame_ms=0.03125))


class TestInlet:
    async def test_the_timer_gives_holes_up_and_hands_out_the_rest(self) -> None:
        chunks: Received = []
        inlet = Inlet(AudioReceiver(chunks.append), lambda now: None)
        stream = encode(voice(1.0))
        for index in (0, 1, 3):
            inlet.take(stream.packet(index))
        assert not chunks
        await until(lambda: bool(chunks))
        # No packet came any more; the hole is concealed nevertheless.
        assert len(chunks[0].samples) == 1_920
        assert chunks[0].concealed_ms == 20
        inlet.take(stream.packet(4))
        await until(lambda: len(chunks) == 2)
        assert len(chunks[1].samples) == 480
        inlet.close()
        inlet.take(stream.packet(5))
        inlet.close()
        assert len(chunks) == 2

    async def test_a_mistake_of_ours_never_reaches_the_transport(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(now: float) -> None:
            raise RuntimeError("ours")

        inlet = Inlet(AudioReceiver(lambda chunk: None), fail)
        for _ in range(3):
            inlet.take(Packet(1, 2, b""))
        assert caplog.text.count("told once") == 1
        inlet.close()
