"""A room whose server is the test, and peer connections that play its SFU."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import anyio.lowlevel
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack

from spreed_signaling import (
    DataReceived,
    InCallFlags,
    Participant,
    ParticipantJoined,
    Room,
    SessionEvent,
)
from spreed_signaling._events import EventStream
from spreed_signaling.media import Call, Speaker
from spreed_signaling.protocol.messages import DataMessage, Message

from .people import SPEAKING, Listener


class ScriptedRoom:
    """A room whose server is the test: it plays `Room` and `Client`."""

    def __init__(self) -> None:
        self.client = self
        self.session_id = "ourselves"
        self.participants: dict[str, Participant] = {}
        self.joined = True
        self._ids = itertools.count(1)
        self._streams: set[EventStream] = set()
        # Closed by `open_room`.
        self.sent, self.requests = anyio.create_memory_object_stream[
            tuple[str, DataMessage]
        ](100)

    def subscribe(self) -> EventStream:
        stream = EventStream(100, self._streams.discard)
        self._streams.add(stream)
        return stream

    def send(self, message: Message, *, keep_s: float = 0.0) -> str:
        assert isinstance(message, DataMessage)
        request_id = str(next(self._ids))
        self.sent.send_nowait((request_id, message))
        return request_id

    def happen(self, event: SessionEvent) -> None:
        for stream in list(self._streams):
            stream.put(event)

    def add(self, name: str, flags: InCallFlags = SPEAKING) -> Participant:
        one = Participant(session_id=name, display_name=name, in_call=flags)
        self.participants[name] = one
        self.happen(ParticipantJoined(participant=one))
        return one

    async def next_request(self, kind: str, to: str) -> tuple[str, Mapping[str, Any]]:
        """The next message of this kind to this session: its id and its data."""
        with anyio.fail_after(15):
            while True:
                request_id, message = await self.requests.receive()
                recipient = message.recipient
                assert recipient is not None
                if recipient.session_id == to and message.data["type"] == kind:
                    return request_id, message.data

    def signal(self, sender: str, kind: str, sid: str, **data: Any) -> None:
        self.happen(
            DataReceived(
                sender_session_id=sender,
                sender_user_id=None,
                data={
                    "from": sender,
                    "type": kind,
                    "roomType": "video",
                    "sid": sid,
                    **data,
                },
            )
        )

    def offer(self, sender: str, sid: str, sdp: str) -> None:
        payload = {"type": "offer", "sdp": sdp}
        self.signal(sender, "offer", sid, payload=payload)


@asynccontextmanager
async def open_room() -> AsyncIterator[ScriptedRoom]:
    room = ScriptedRoom()
    with room.sent, room.requests:
        yield room


def as_room(room: ScriptedRoom) -> Room:
    return cast(Room, room)


@asynccontextmanager
async def publisher(*tracks: MediaStreamTrack) -> AsyncIterator[RTCPeerConnection]:
    """A peer connection that offers these tracks, as the SFU does."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        for track in tracks:
            pc.addTrack(track)
        for transceiver in pc.getTransceivers():
            transceiver.direction = "sendonly"
        await pc.setLocalDescription(await pc.createOffer())
        yield pc
    finally:
        await pc.close()
        for track in tracks:
            track.stop()


async def first_speaker(call: Call) -> Speaker:
    with anyio.fail_after(10):
        return await anext(call.speakers())


@asynccontextmanager
async def hearing_alice(room: ScriptedRoom) -> AsyncIterator[Listener]:
    """A call in which somebody listens to alice."""
    async with Call(as_room(room)) as call, anyio.create_task_group() as tasks:
        room.add("alice")
        listener = Listener(await first_speaker(call))
        tasks.start_soon(listener.run)
        yield listener
        tasks.cancel_scope.cancel()


async def connect_publisher(
    room: ScriptedRoom, name: str, pc: RTCPeerConnection, sid: str
) -> str:
    """Answer the next request for this publisher; returns our side's answer."""
    await room.next_request("requestoffer", name)
    room.offer(name, sid, pc.localDescription.sdp)
    _, data = await room.next_request("answer", name)
    assert data["sid"] == sid and data["to"] == name
    sdp = str(data["payload"]["sdp"])
    await pc.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="answer"))
    return sdp
