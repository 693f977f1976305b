"""Publishing through the embedded server."""

from __future__ import annotations

import anyio
from aiortc.sdp import SessionDescription

from spreed_signaling.testing.hpb import EmbeddedHpb
from spreed_signaling.testing.hpb.sfu_aiortc import missing_names
from spreed_signaling.testing.nextcloud import StandInNextcloud

from ..raw_client import TOKEN, raw_client
from .peers import Publisher, peer


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
        self, speaking: Publisher
    ) -> None:
        with anyio.fail_after(5):
            while True:
                stats = await speaking.connection.getStats()
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
