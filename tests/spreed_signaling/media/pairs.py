"""A publisher on aiortc, and our side of the connection with what comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack
from attrs import define, field

from spreed_signaling.media import AudioFile
from spreed_signaling.media.peer import SubscriberPeer

from .people import write_tone

Received = list[Any]


@define
class Pair:
    """A publisher, and our side with its packets."""

    publisher: RTCPeerConnection
    peer: SubscriberPeer
    tracks: list[MediaStreamTrack]
    packets: Received = field(factory=list)
    tapped: bool = False
    refused: int = 0

    def refuse(self) -> None:
        self.refused += 1


async def until(condition: Callable[[], bool]) -> None:
    """aiortc and the inlet tell nobody; so it has to be looked at."""
    with anyio.fail_after(45):
        while not condition():  # noqa: ASYNC110  # there is no event
            await anyio.sleep(0.01)


@asynccontextmanager
async def loopback(path: Path) -> AsyncIterator[Pair]:
    source = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    audio = AudioFile(write_tone(path / "tone.wav", 440))

    def on_track(track: MediaStreamTrack) -> None:
        pair.tracks.append(track)
        pair.tapped = pair.peer.tap(track, pair.packets.append, pair.refuse)

    pair = Pair(source, SubscriberPeer((), lambda state: None, on_track), [])
    try:
        source.addTrack(audio)
        await source.setLocalDescription(await source.createOffer())
        answer = await pair.peer.answer(source.localDescription.sdp)
        description = RTCSessionDescription(sdp=answer, type="answer")
        await source.setRemoteDescription(description)
        yield pair
    finally:
        await pair.peer.close()
        await source.close()
        audio.stop()
