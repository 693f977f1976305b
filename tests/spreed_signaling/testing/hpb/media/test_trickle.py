"""Candidates that are sent apart from offer and answer."""

from __future__ import annotations

from collections.abc import Iterable

from ..raw_client import Frame, RawClient
from .peers import Publisher, Subscriber, subscribed


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


async def trickle(
    client: RawClient, to: str, data: Frame, candidates: Iterable[Frame]
) -> None:
    for value in candidates:
        await client.to_session(to, {**data, "type": "candidate", "payload": value})


async def offer_without_candidates(publisher: Publisher, data: Frame) -> list[Frame]:
    """Offer, and return the candidates that the offer lacks."""
    client, connection = publisher.client, publisher.connection
    connection.addTrack(publisher.track)
    await connection.setLocalDescription(await connection.createOffer())
    sdp, candidates = without_candidates(connection.localDescription.sdp)
    offer = {"type": "offer", "payload": {"type": "offer", "sdp": sdp}}
    await client.to_session(client.session_id, {**data, **offer})
    return candidates


class TestTrickle:
    async def test_a_publisher_sends_candidates_apart(
        self, publisher: Publisher, bot: RawClient
    ) -> None:
        client, own = publisher.client, publisher.client.session_id
        data: Frame = {"sid": "1", "roomType": "video"}
        candidates = await offer_without_candidates(publisher, data)
        # Not usable, and dropped without a word.
        hidden = "candidate:1 1 udp 1 some-name.local 9 typ host"
        unusable = {"candidate": {"candidate": hidden}}
        await trickle(client, own, data, [*candidates, unusable])
        await client.to_session(own, {**data, "type": "endOfCandidates"})
        await publisher.accept(await client.kind("message/answer"))
        await publisher.connect()
        async with subscribed(bot, publisher) as subscriber:
            await subscriber.count(5)

    async def test_useless_candidates_are_refused(self, speaking: Publisher) -> None:
        client, own = speaking.client, speaking.client.session_id
        data = {"type": "candidate", "sid": "1234", "roomType": "video"}
        garbage = {"candidate": {"candidate": "candidate:garbage"}}
        for payload, code in (({}, "no_candidate"), (garbage, "processing_failed")):
            bad = await client.to_session(own, {**data, "payload": payload})
            assert await client.error(bad) == code

    async def test_a_subscriber_sends_candidates_before_its_answer(
        self, speaking: Publisher, bot: RawClient
    ) -> None:
        subscriber = Subscriber(bot, speaking.client.session_id)
        await bot.request_offer(subscriber.publisher_id)
        sdp = await subscriber.accept(await bot.kind("message/offer"))
        sdp, candidates = without_candidates(sdp)
        data = {"sid": subscriber.sid, "roomType": "video"}
        await trickle(bot, subscriber.publisher_id, data, candidates)
        payload = {"type": "answer", "sdp": sdp}
        answer = {**data, "type": "answer", "payload": payload}
        await bot.to_session(subscriber.publisher_id, answer)
        await subscriber.connect()
        await subscriber.count(5)
        await subscriber.connection.close()
