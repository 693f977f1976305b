"""Media through the embedded server, with aiortc at both ends."""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import os
import shutil
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import av
import numpy as np
import pytest
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)
from aiortc.rtp import RtpPacket
from aiortc.sdp import SessionDescription, candidate_from_sdp

from spreed_signaling.testing.hpb import EmbeddedHpb, HpbOptions
from spreed_signaling.testing.hpb.sfu_aiortc import missing_names, take_packets
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud

from .raw_client import TOKEN, Frame, RawClient, kind_of, raw_client


@pytest.fixture
def options() -> HpbOptions:
    return HpbOptions(publisher_wait_s=3.0, resume_window_s=0.5)


def peer() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def opus_packets(count: int) -> list[bytes]:
    """Encode a 440 Hz tone into Opus packets of 20 ms."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate = 48000
    encoder.format = av.AudioFormat("s16")
    encoder.layout = av.AudioLayout("stereo")
    packets: list[bytes] = []
    index = 0
    while len(packets) < count:
        t = (np.arange(960) + index * 960) / 48000
        tone = (np.sin(2 * np.pi * 440 * t) * 12000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(
            np.repeat(tone, 2).reshape(1, -1), format="s16", layout="stereo"
        )
        frame.sample_rate = 48000
        frame.pts = index * 960
        packets += [bytes(packet) for packet in encoder.encode(frame)]
        index += 1
    return packets


class PacketTrack(MediaStreamTrack):
    """Plays encoded packets in real time, for ever."""

    kind = "audio"

    def __init__(self, packets: list[bytes]) -> None:
        super().__init__()
        self.packets = packets
        self.sent: list[bytes] = []
        self._start = time.monotonic()

    async def recv(self) -> av.Packet[Any]:
        number = len(self.sent)
        await anyio.sleep(max(0, self._start + number * 0.02 - time.monotonic()))
        payload = self.packets[number % len(self.packets)]
        self.sent.append(payload)
        packet = av.Packet(payload)
        packet.pts = number * 960
        packet.time_base = fractions.Fraction(1, 48000)
        return packet


class Publisher:
    """A member that publishes."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.connection = peer()
        self.track = PacketTrack(opus_packets(50))
        self.frames: list[Frame] = []

    async def publish(self, *, video: bool = False, sid: str = "1234") -> Frame:
        connection = self.connection
        if not connection.getSenders():
            connection.addTrack(self.track)
            if video:
                connection.addTransceiver("video", direction="sendrecv")
        await connection.setLocalDescription(await connection.createOffer())
        payload = {"type": "offer", "sdp": connection.localDescription.sdp}
        await self.client.to_session(
            self.client.session_id,
            {"type": "offer", "sid": sid, "roomType": "video", "payload": payload},
        )
        answer = await self.client.kind("message/answer")
        data = answer["message"]["data"]
        await connection.setRemoteDescription(
            RTCSessionDescription(data["payload"]["sdp"], "answer")
        )
        return answer

    async def connect(self) -> None:
        candidate = await self.client.kind("message/candidate")
        await add_candidate(self.connection, candidate)
        await reach(self.connection, "connected")


class Subscriber:
    """Somebody who receives, packet by packet."""

    def __init__(self, client: RawClient, publisher_id: str) -> None:
        self.client = client
        self.publisher_id = publisher_id
        self.packets: list[RtpPacket] = []
        self.connection = peer()
        self.arrived = anyio.Event()
        self.sid = ""

    async def take(self, offer: Frame, *, hook: bool = True) -> None:
        data = offer["message"]["data"]
        self.sid = data["sid"]
        if hook:
            self.connection.on("track", self._on_track)
        await self.connection.setRemoteDescription(
            RTCSessionDescription(data["payload"]["sdp"], "offer")
        )
        await self.answer()

    async def answer(self, sid: str | None = None) -> str:
        connection = self.connection
        if connection.signalingState == "have-remote-offer":
            await connection.setLocalDescription(await connection.createAnswer())
        payload = {"type": "answer", "sdp": connection.localDescription.sdp}
        data = {"type": "answer", "sid": sid or self.sid, "roomType": "video"}
        return await self.client.to_session(
            self.publisher_id, {**data, "payload": payload}
        )

    async def connect(self) -> None:
        candidate = await self.client.kind("message/candidate")
        await add_candidate(self.connection, candidate)
        await reach(self.connection, "connected")

    async def count(self, packets: int) -> None:
        with anyio.fail_after(5):
            while len(self.packets) < packets:
                await self.arrived.wait()
                self.arrived = anyio.Event()

    def _on_track(self, track: MediaStreamTrack) -> None:
        async def keep(packet: RtpPacket) -> None:
            self.packets.append(packet)
            self.arrived.set()

        for receiver in self.connection.getReceivers():
            if receiver.track is track:
                take_packets(receiver, keep)


async def add_candidate(connection: RTCPeerConnection, frame: Frame) -> None:
    value = frame["message"]["data"]["payload"]["candidate"]
    candidate = candidate_from_sdp(value["candidate"].removeprefix("candidate:"))
    candidate.sdpMid = value["sdpMid"]
    candidate.sdpMLineIndex = value["sdpMLineIndex"]
    await connection.addIceCandidate(candidate)


async def reach(connection: RTCPeerConnection, state: str) -> None:
    changed = anyio.Event()
    connection.on("connectionstatechange", lambda: changed.set())
    with anyio.fail_after(5):
        while connection.connectionState != state:
            await changed.wait()
            changed = anyio.Event()


Publish = Callable[..., Any]


@pytest.fixture
async def publisher(
    hpb: EmbeddedHpb, alice: Member, nextcloud: StandInNextcloud
) -> AsyncIterator[Publisher]:
    """Alice, in the room and in the call, not publishing yet."""
    async with raw_client(hpb) as client:
        await client.hello_member(alice)
        await client.join(alice)
        await nextcloud.join_call(alice)
        publisher = Publisher(client)
        try:
            yield publisher
        finally:
            await publisher.connection.close()


@pytest.fixture
async def bot(
    hpb: EmbeddedHpb, nextcloud: StandInNextcloud
) -> AsyncIterator[RawClient]:
    async with raw_client(hpb) as client:
        await client.hello_internal(backend=nextcloud.url)
        await client.send("internal", {"type": "incall", "incall": {"incall": 1}})
        await client.join()
        yield client


@contextlib.asynccontextmanager
async def subscribed(bot: RawClient, publisher: Publisher) -> AsyncIterator[Subscriber]:
    subscriber = Subscriber(bot, publisher.client.session_id)
    await bot.request_offer(subscriber.publisher_id)
    await subscriber.take(await bot.kind("message/offer"))
    try:
        await subscriber.connect()
        yield subscriber
    finally:
        await subscriber.connection.close()


class TestContract:
    async def test_aiortc_has_what_the_hooks_need(self) -> None:
        assert missing_names() == []


class TestPublish:
    async def test_answer_is_like_the_real_one(self, publisher: Publisher) -> None:
        answer = await publisher.publish()
        message = answer["message"]
        assert message["sender"]["userid"] == "alice"
        data = message["data"]
        assert set(data) == {"to", "from", "type", "roomType", "payload", "sid"}
        assert data["to"] == data["from"] == publisher.client.session_id
        assert data["sid"] == "1234"
        sdp = data["payload"]["sdp"]
        assert "a=candidate" not in sdp
        parsed = SessionDescription.parse(sdp)
        assert [m.direction for m in parsed.media] == ["recvonly"]
        assert [c.mimeType for c in parsed.media[0].rtp.codecs] == ["audio/opus"]
        assert parsed.media[0].dtls is not None
        assert parsed.media[0].dtls.role == "client"
        await publisher.connect()

    async def test_receiver_reports_reach_the_publisher(
        self, publisher: Publisher
    ) -> None:
        await publisher.publish()
        await publisher.connect()
        with anyio.fail_after(5):
            while True:
                stats = await publisher.connection.getStats()
                if any(item.type == "remote-inbound-rtp" for item in stats.values()):
                    break
                await anyio.sleep(0.1)

    async def test_offer_without_sdp(self, publisher: Publisher) -> None:
        client = publisher.client
        for payload, code in (({}, "no_sdp"), ({"sdp": "nonsense"}, "invalid_sdp")):
            data = {"type": "offer", "sid": "1", "roomType": "video"}
            message_id = await client.to_session(
                client.session_id, {**data, "payload": payload}
            )
            assert await client.error(message_id) == code

    async def test_permission_is_needed(
        self, hpb: EmbeddedHpb, nextcloud: StandInNextcloud
    ) -> None:
        mute = nextcloud.add_member(TOKEN, "carol", "Carol", permissions=("control",))
        async with raw_client(hpb) as client:
            await client.hello_member(mute)
            await client.join(mute)
            connection = peer()
            connection.addTransceiver("audio", direction="sendrecv")
            sdp = (await connection.createOffer()).sdp
            data = {"type": "offer", "sid": "1", "roomType": "video"}
            message_id = await client.to_session(
                client.session_id, {**data, "payload": {"type": "offer", "sdp": sdp}}
            )
            assert await client.error(message_id) == "not_allowed"
            await connection.close()


class TestSubscribe:
    async def test_offer_is_like_the_real_one(
        self, publisher: Publisher, bot: RawClient
    ) -> None:
        await publisher.publish()
        await publisher.connect()
        await bot.request_offer(publisher.client.session_id)
        offer = await bot.kind("message/offer")
        data = offer["message"]["data"]
        assert "userid" not in offer["message"]["sender"]
        assert data["from"] == publisher.client.session_id
        assert data["to"] == bot.session_id
        assert data["sid"].isdigit() and len(data["sid"]) in (15, 16)
        sdp = data["payload"]["sdp"]
        assert "a=candidate" not in sdp and "a=setup:actpass" in sdp
        parsed = SessionDescription.parse(sdp)
        (media,) = parsed.media
        assert (media.kind, media.direction, media.rtp.muxId) == (
            "audio",
            "sendonly",
            "0",
        )
        assert [c.payloadType for c in media.rtp.codecs] == [111]
        assert {e.id: e.uri.rpartition(":")[2] for e in media.rtp.headerExtensions} == {
            1: "ssrc-audio-level",
            4: "mid",
        }
        candidate = await bot.kind("message/candidate")
        payload = candidate["message"]["data"]["payload"]["candidate"]
        assert set(payload) == {"sdpMid", "sdpMLineIndex", "candidate"}

    async def test_packets_pass_unchanged(
        self, hpb: EmbeddedHpb, publisher: Publisher, bot: RawClient
    ) -> None:
        await publisher.publish()
        await publisher.connect()
        async with subscribed(bot, publisher) as subscriber:
            await subscriber.count(20)
            packets = list(subscriber.packets)
            views = {view.session_id: view for view in hpb.sessions}
            assert views[publisher.client.session_id].publishing == ("video",)
            assert views[bot.session_id].subscribed_to == (publisher.client.session_id,)
        sent = publisher.track.sent
        begin = sent.index(packets[0].payload)
        assert [p.payload for p in packets] == sent[begin : begin + len(packets)]
        assert {p.payload_type for p in packets} == {111}
        numbers = [p.sequence_number for p in packets]
        steps = {(b - a) & 0xFFFF for a, b in zip(numbers, numbers[1:], strict=False)}
        assert steps == {1}
        stamps = [p.timestamp for p in packets]
        steps = {(b - a) & 0xFFFFFFFF for a, b in zip(stamps, stamps[1:], strict=False)}
        assert steps == {960}

    async def test_audio_arrives_at_a_plain_aiortc_client(
        self, publisher: Publisher, bot: RawClient
    ) -> None:
        await publisher.publish()
        await publisher.connect()
        subscriber = Subscriber(bot, publisher.client.session_id)
        tracks: list[MediaStreamTrack] = []
        subscriber.connection.on("track", tracks.append)
        await bot.request_offer(subscriber.publisher_id)
        await subscriber.take(await bot.kind("message/offer"), hook=False)
        await subscriber.connect()
        with anyio.fail_after(5):
            frames = [await tracks[0].recv() for _ in range(15)]
        samples = np.concatenate(
            [frame.to_ndarray()[0][::2] for frame in frames[5:]]  # type: ignore[union-attr]  # audio frames
        ).astype(float)
        spectrum = np.abs(np.fft.rfft(samples))
        peak = float(np.fft.rfftfreq(len(samples), 1 / 48000)[spectrum.argmax()])
        assert abs(peak - 440) < 10
        await subscriber.connection.close()

    async def test_lost_packets_leave_holes(
        self, hpb: EmbeddedHpb, publisher: Publisher, bot: RawClient
    ) -> None:
        hpb.media_loss = lambda index: index % 5 == 0
        await publisher.publish()
        await publisher.connect()
        async with subscribed(bot, publisher) as subscriber:
            await subscriber.count(20)
            numbers = [p.sequence_number for p in subscriber.packets]
        steps = {(b - a) & 0xFFFF for a, b in zip(numbers, numbers[1:], strict=False)}
        assert steps == {1, 2}

    async def test_request_before_publishing_waits(
        self, publisher: Publisher, bot: RawClient
    ) -> None:
        await bot.request_offer(publisher.client.session_id)
        await publisher.publish()
        assert not any(kind_of(f) == "message/offer" for f in bot.received)
        await publisher.connect()
        await bot.kind("message/offer")

    async def test_wrong_sid_is_refused(
        self, publisher: Publisher, bot: RawClient
    ) -> None:
        await publisher.publish()
        await publisher.connect()
        subscriber = Subscriber(bot, publisher.client.session_id)
        await bot.request_offer(subscriber.publisher_id)
        offer = await bot.kind("message/offer")
        await subscriber.take(offer)
        wrong = await subscriber.answer(sid="999")
        assert await bot.error(wrong) == "processing_failed"
        await subscriber.connection.close()

    async def test_new_request_replaces_the_subscription(
        self, publisher: Publisher, bot: RawClient
    ) -> None:
        await publisher.publish()
        await publisher.connect()
        async with subscribed(bot, publisher) as subscriber:
            await bot.request_offer(subscriber.publisher_id)
            offer = await bot.kind("message/offer")
            assert offer["message"]["data"]["sid"] != subscriber.sid
            await reach(subscriber.connection, "closed")

    async def test_request_with_current_sid_updates(
        self, publisher: Publisher, bot: RawClient
    ) -> None:
        await publisher.publish()
        await publisher.connect()
        async with subscribed(bot, publisher) as subscriber:
            await bot.request_offer(subscriber.publisher_id, sid=subscriber.sid)
            offer = await bot.kind("message/offer")
            assert offer["message"]["data"]["sid"] == subscriber.sid
            await subscriber.take(offer)
            seen = len(subscriber.packets)
            await subscriber.count(seen + 5)

    async def test_renegotiation_sends_an_unsolicited_offer(
        self, publisher: Publisher, bot: RawClient
    ) -> None:
        await publisher.publish()
        await publisher.connect()
        async with subscribed(bot, publisher) as subscriber:
            answer = await publisher.publish(sid="5678")
            assert answer["message"]["data"]["sid"] == "1234"
            offer = await bot.kind("message/offer")
            assert offer["message"]["data"]["sid"] == subscriber.sid
            await subscriber.take(offer)
            seen = len(subscriber.packets)
            await subscriber.count(seen + 5)

    async def test_video_line_can_be_declined(
        self, publisher: Publisher, bot: RawClient
    ) -> None:
        await publisher.publish(video=True)
        await publisher.connect()
        subscriber = Subscriber(bot, publisher.client.session_id)
        await bot.request_offer(subscriber.publisher_id)
        offer = await bot.kind("message/offer")
        parsed = SessionDescription.parse(offer["message"]["data"]["payload"]["sdp"])
        assert [m.kind for m in parsed.media] == ["audio", "video"]
        connection = subscriber.connection
        connection.on("track", subscriber._on_track)
        subscriber.sid = offer["message"]["data"]["sid"]
        await connection.setRemoteDescription(
            RTCSessionDescription(offer["message"]["data"]["payload"]["sdp"], "offer")
        )
        for transceiver in connection.getTransceivers():
            if transceiver.kind == "video":
                transceiver.direction = "inactive"
        await subscriber.answer()
        await subscriber.connect()
        await subscriber.count(5)
        await connection.close()

    async def test_select_stream(self, publisher: Publisher, bot: RawClient) -> None:
        await publisher.publish()
        await publisher.connect()
        async with subscribed(bot, publisher) as subscriber:
            await subscriber.count(3)
            data = {"type": "selectStream", "roomType": "video"}
            await bot.to_session(
                subscriber.publisher_id, {**data, "payload": {"audio": False}}
            )
            # Candidates of further addresses may still be on their way.
            assert set(await bot.nothing_more()) <= {"message/candidate"}
            seen = len(subscriber.packets)
            await anyio.sleep(0.2)
            assert len(subscriber.packets) <= seen + 1
            message_id = await bot.to_session(
                subscriber.publisher_id, {**data, "payload": {"audio": "no"}}
            )
            assert await bot.error(message_id) == "processing_failed"


def without_candidates(sdp: str) -> tuple[str, list[Frame]]:
    """Split a description, as a client that trickles does."""
    lines = sdp.split("\r\n")
    kept = [line for line in lines if "candidate" not in line]
    found = [line[2:] for line in lines if line.startswith("a=candidate:")]
    values = [
        {"candidate": {"candidate": line, "sdpMid": "0", "sdpMLineIndex": 0}}
        for line in found
    ]
    return "\r\n".join(kept), values


class TestTrickle:
    async def test_both_clients_send_candidates_apart(
        self, publisher: Publisher, bot: RawClient
    ) -> None:
        client, connection = publisher.client, publisher.connection
        connection.addTrack(publisher.track)
        await connection.setLocalDescription(await connection.createOffer())
        sdp, values = without_candidates(connection.localDescription.sdp)
        own = client.session_id
        data: Frame = {"sid": "1", "roomType": "video"}
        offer = {"type": "offer", "payload": {"type": "offer", "sdp": sdp}}
        await client.to_session(own, {**data, **offer})
        # Not usable, and dropped without a word.
        hidden = "candidate:1 1 udp 1 some-name.local 9 typ host"
        for value in (*values, {"candidate": {"candidate": hidden}}):
            payload = {"type": "candidate", "payload": value}
            await client.to_session(own, {**data, **payload})
        await client.to_session(own, {**data, "type": "endOfCandidates"})
        answer = await client.kind("message/answer")
        sdp = answer["message"]["data"]["payload"]["sdp"]
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        await publisher.connect()
        bad = await client.to_session(own, {**data, "type": "candidate", "payload": {}})
        assert await client.error(bad) == "no_candidate"
        value = {"candidate": {"candidate": "candidate:garbage"}}
        bad = await client.to_session(
            own, {**data, "type": "candidate", "payload": value}
        )
        assert await client.error(bad) == "processing_failed"

        subscriber = Subscriber(bot, own)
        subscriber.connection.on("track", subscriber._on_track)
        await bot.request_offer(own)
        received = (await bot.kind("message/offer"))["message"]["data"]
        data = {"sid": received["sid"], "roomType": "video"}
        await subscriber.connection.setRemoteDescription(
            RTCSessionDescription(received["payload"]["sdp"], "offer")
        )
        await subscriber.connection.setLocalDescription(
            await subscriber.connection.createAnswer()
        )
        sdp, values = without_candidates(subscriber.connection.localDescription.sdp)
        # Candidates may overtake the answer.
        for value in values:
            await bot.to_session(own, {**data, "type": "candidate", "payload": value})
        payload = {"type": "answer", "sdp": sdp}
        await bot.to_session(own, {**data, "type": "answer", "payload": payload})
        await subscriber.connect()
        await subscriber.count(5)
        await subscriber.connection.close()


class TestScreen:
    async def test_offered_by_the_publisher_and_taken_back(
        self, publisher: Publisher, bot: RawClient
    ) -> None:
        client, connection = publisher.client, publisher.connection
        own = client.session_id
        connection.addTrack(VideoStreamTrack())
        await connection.setLocalDescription(await connection.createOffer())
        payload = {"type": "offer", "sdp": connection.localDescription.sdp}
        data: Frame = {"type": "offer", "sid": "1", "roomType": "screen"}
        await client.to_session(own, {**data, "payload": payload})
        answer = await client.kind("message/answer")
        sdp = answer["message"]["data"]["payload"]["sdp"]
        assert "VP8" in sdp and "H264" not in sdp
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        await publisher.connect()

        await client.to_session(
            bot.session_id, {"type": "sendoffer", "roomType": "screen"}
        )
        offer = (await bot.kind("message/offer"))["message"]["data"]
        assert offer["roomType"] == "screen"
        viewer = peer()
        tracks: list[Any] = []
        viewer.on("track", tracks.append)
        await viewer.setRemoteDescription(
            RTCSessionDescription(offer["payload"]["sdp"], "offer")
        )
        await viewer.setLocalDescription(await viewer.createAnswer())
        payload = {"type": "answer", "sdp": viewer.localDescription.sdp}
        data = {"type": "answer", "sid": offer["sid"], "roomType": "screen"}
        await bot.to_session(own, {**data, "payload": payload})
        await add_candidate(viewer, await bot.kind("message/candidate"))
        await reach(viewer, "connected")
        with anyio.fail_after(10):
            # A key frame was asked for, else nothing could be decoded.
            frame = await tracks[0].recv()
        assert frame.width == 640

        await client.to_session(own, {"type": "unshareScreen", "roomType": "screen"})
        await reach(connection, "closed")
        await viewer.close()


class TestEnds:
    async def test_leaving_the_call_ends_the_media_silently(
        self,
        publisher: Publisher,
        bot: RawClient,
        alice: Member,
        nextcloud: StandInNextcloud,
    ) -> None:
        await publisher.publish()
        await publisher.connect()
        async with subscribed(bot, publisher) as subscriber:
            await subscriber.count(3)
            await nextcloud.leave_call(alice)
            await reach(publisher.connection, "closed")
            assert subscriber.connection.connectionState == "connected"
            seen = len(subscriber.packets)
            await anyio.sleep(0.2)
            assert len(subscriber.packets) == seen
            # A known subscription to somebody without media fails differently.
            again = await bot.request_offer(subscriber.publisher_id)
            assert await bot.error(again) == "processing_failed"

    async def test_republishing_after_closing(
        self, publisher: Publisher, bot: RawClient
    ) -> None:
        await publisher.publish()
        await publisher.connect()
        async with subscribed(bot, publisher):
            pass
        await publisher.connection.close()
        second = Publisher(publisher.client)
        answer = await second.publish(sid="5678")
        assert answer["message"]["data"]["sid"] == "5678"
        await second.connect()
        async with subscribed(bot, second) as subscriber:
            await subscriber.count(3)
        await second.connection.close()

    async def test_media_runs_on_while_the_socket_is_down(
        self, hpb: EmbeddedHpb, publisher: Publisher, bot: RawClient
    ) -> None:
        await publisher.publish()
        await publisher.connect()
        async with subscribed(bot, publisher) as subscriber:
            await hpb.drop_connections()
            seen = len(subscriber.packets)
            await subscriber.count(seen + 5)
            # Both sessions expire; then both connections end.
            await reach(subscriber.connection, "closed")
            await reach(publisher.connection, "closed")
        assert hpb.sessions == ()

    async def test_server_ends_quickly_with_living_peers(
        self, nextcloud: StandInNextcloud, alice: Member
    ) -> None:
        async with contextlib.AsyncExitStack() as stack:
            hpb = EmbeddedHpb(
                backend_url=nextcloud.url,
                backend_secret=nextcloud.backend_secret,
                internal_secret="",
            )
            async with hpb:
                client = await stack.enter_async_context(raw_client(hpb))
                await client.hello_member(alice)
                await client.join(alice)
                publisher = Publisher(client)
                await publisher.publish()
                await publisher.connect()
                begin = time.monotonic()
            assert time.monotonic() - begin < 2
            assert await client.close_code() == 1006
            await reach(publisher.connection, "closed")
            await publisher.connection.close()

    async def test_nothing_is_left_behind(
        self, nextcloud: StandInNextcloud, alice: Member
    ) -> None:
        async def call() -> None:
            async with (
                EmbeddedHpb(
                    backend_url=nextcloud.url,
                    backend_secret=nextcloud.backend_secret,
                    internal_secret="the-internal-secret",
                ) as hpb,
                raw_client(hpb) as client,
                raw_client(hpb) as bot,
            ):
                await client.hello_member(alice)
                await client.join(alice)
                publisher = Publisher(client)
                await publisher.publish()
                await publisher.connect()
                await bot.hello_internal(backend=nextcloud.url)
                async with subscribed(bot, publisher) as subscriber:
                    await subscriber.count(1)
                await publisher.connection.close()
                # A waiting request must not hold up the end either.
                await bot.request_offer(client.session_id)

        def left() -> tuple[int, int, int]:
            descriptors = len(os.listdir("/proc/self/fd"))
            return len(asyncio.all_tasks()), threading.active_count(), descriptors

        await call()
        before = left()
        await call()
        with anyio.move_on_after(2):
            # Nothing tells when uvicorn and aiortc have let go of the last bits.
            while left() > before:  # noqa: ASYNC110
                await anyio.sleep(0.05)
        assert left() <= before


class TestWithoutNetwork:
    async def test_media_over_loopback_alone(self) -> None:
        """The packet test again, in a network namespace that has only `lo`."""
        namespace = ["unshare", "--user", "--map-root-user", "--net"]
        if not (shutil.which("unshare") and shutil.which("ip")):
            pytest.skip("needs util-linux and iproute2")
        up = "ip link set lo up"
        probe = await anyio.run_process([*namespace, "sh", "-c", up], check=False)
        if probe.returncode != 0:
            pytest.skip("network namespaces are not allowed here")
        test = f"{__file__}::TestSubscribe::test_packets_pass_unchanged"
        command = f'{up} && exec "$0" -m pytest -q -p no:cacheprovider "$1"'
        with anyio.fail_after(50):
            result = await anyio.run_process(
                [*namespace, "sh", "-c", command, sys.executable, test], check=False
            )
        assert result.returncode == 0, result.stdout.decode()
        assert b"1 passed" in result.stdout
