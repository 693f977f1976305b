"""Shared screens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from aiortc import RTCSessionDescription, VideoStreamTrack

from ..raw_client import Frame, RawClient
from .peers import Publisher, add_candidate, peer, reach


async def share_screen(publisher: Publisher) -> str:
    """Publish a screen; returns the server's description."""
    client, connection = publisher.client, publisher.connection
    connection.addTrack(VideoStreamTrack())
    await connection.setLocalDescription(await connection.createOffer())
    payload = {"type": "offer", "sdp": connection.localDescription.sdp}
    data = {"type": "offer", "sid": "1", "roomType": "screen", "payload": payload}
    await client.to_session(client.session_id, data)
    sdp = await publisher.accept(await client.kind("message/answer"))
    await publisher.connect()
    return sdp


@asynccontextmanager
async def viewed(
    bot: RawClient, publisher_id: str, offer: Frame
) -> AsyncIterator[list[Any]]:
    """Take an offered screen; yields its tracks."""
    viewer = peer()
    tracks: list[Any] = []
    viewer.on("track", tracks.append)
    await viewer.setRemoteDescription(
        RTCSessionDescription(offer["payload"]["sdp"], "offer")
    )
    await viewer.setLocalDescription(await viewer.createAnswer())
    payload = {"type": "answer", "sdp": viewer.localDescription.sdp}
    data = {"type": "answer", "sid": offer["sid"], "roomType": "screen"}
    await bot.to_session(publisher_id, {**data, "payload": payload})
    await add_candidate(viewer, await bot.kind("message/candidate"))
    await reach(viewer, "connected")
    yield tracks
    await viewer.close()


class TestScreen:
    async def test_offered_by_the_publisher_and_taken_back(
        self, publisher: Publisher, bot: RawClient
    ) -> None:
        client, own = publisher.client, publisher.client.session_id
        sdp = await share_screen(publisher)
        assert "VP8" in sdp and "H264" not in sdp
        await client.to_session(
            bot.session_id, {"type": "sendoffer", "roomType": "screen"}
        )
        offer = (await bot.kind("message/offer"))["message"]["data"]
        assert offer["roomType"] == "screen"
        async with viewed(bot, own, offer) as tracks:
            with anyio.fail_after(10):
                # A key frame was asked for, else nothing could be decoded.
                frame = await tracks[0].recv()
            assert frame.width == 640
            unshare = {"type": "unshareScreen", "roomType": "screen"}
            await client.to_session(own, unshare)
            await reach(publisher.connection, "closed")
