"""Receiving through the embedded server, with aiortc at both ends."""

from __future__ import annotations

import shutil
import sys

import anyio
import numpy as np
import pytest
from aiortc import MediaStreamTrack
from aiortc.sdp import SessionDescription

from spreed_signaling.testing.hpb import EmbeddedHpb

from ..raw_client import RawClient, kind_of
from .peers import Publisher, Subscriber, reach, subscribed


class TestSubscribe:
    async def test_offer_is_like_the_real_one(
        self, speaking: Publisher, bot: RawClient
    ) -> None:
        await bot.request_offer(speaking.client.session_id)
        offer = await bot.kind("message/offer")
        data = offer["message"]["data"]
        assert "userid" not in offer["message"]["sender"]
        assert data["from"] == speaking.client.session_id
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
        self, hpb: EmbeddedHpb, speaking: Publisher, bot: RawClient
    ) -> None:
        async with subscribed(bot, speaking) as subscriber:
            await subscriber.count(20)
            packets = list(subscriber.packets)
            views = {view.session_id: view for view in hpb.sessions}
            assert views[speaking.client.session_id].publishing == ("video",)
            assert views[bot.session_id].subscribed_to == (speaking.client.session_id,)
        sent = speaking.track.sent
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
        self, speaking: Publisher, bot: RawClient
    ) -> None:
        subscriber = Subscriber(bot, speaking.client.session_id)
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
        self, speaking: Publisher, bot: RawClient
    ) -> None:
        subscriber = Subscriber(bot, speaking.client.session_id)
        await bot.request_offer(subscriber.publisher_id)
        offer = await bot.kind("message/offer")
        await subscriber.take(offer)
        wrong = await subscriber.answer(sid="999")
        assert await bot.error(wrong) == "processing_failed"
        await subscriber.connection.close()

    async def test_new_request_replaces_the_subscription(
        self, speaking: Publisher, bot: RawClient
    ) -> None:
        async with subscribed(bot, speaking) as subscriber:
            await bot.request_offer(subscriber.publisher_id)
            offer = await bot.kind("message/offer")
            assert offer["message"]["data"]["sid"] != subscriber.sid
            await reach(subscriber.connection, "closed")

    async def test_request_with_current_sid_updates(
        self, speaking: Publisher, bot: RawClient
    ) -> None:
        async with subscribed(bot, speaking) as subscriber:
            await bot.request_offer(subscriber.publisher_id, sid=subscriber.sid)
            offer = await bot.kind("message/offer")
            assert offer["message"]["data"]["sid"] == subscriber.sid
            await subscriber.take(offer)
            await subscriber.more()

    async def test_renegotiation_sends_an_unsolicited_offer(
        self, speaking: Publisher, bot: RawClient
    ) -> None:
        async with subscribed(bot, speaking) as subscriber:
            answer = await speaking.publish(sid="5678")
            assert answer["message"]["data"]["sid"] == "1234"
            offer = await bot.kind("message/offer")
            assert offer["message"]["data"]["sid"] == subscriber.sid
            await subscriber.take(offer)
            await subscriber.more()

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
        await subscriber.accept(offer, video=False)
        await subscriber.answer()
        await subscriber.connect()
        await subscriber.count(5)
        await subscriber.connection.close()

    async def test_select_stream(self, speaking: Publisher, bot: RawClient) -> None:
        async with subscribed(bot, speaking) as subscriber:
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
