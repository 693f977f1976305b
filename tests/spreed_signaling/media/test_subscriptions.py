"""Calls against a scripted server: odd offers, other media, what is sent when."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)
from aiortc.mediastreams import MediaStreamTrack

from spreed_signaling import (
    DataReceived,
    EventsLagged,
    IceServer,
    InCallFlags,
    Participant,
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
    RequestErrored,
    RequestFailed,
    Room,
    RoomJoined,
    RoomLeft,
    SessionEvent,
    SessionStarted,
)
from spreed_signaling._events import EventStream
from spreed_signaling.media import AudioFile, Call, CallOptions, MediaError, Speaker
from spreed_signaling.protocol.messages import DataMessage, Message

from ..harness import no_leaks
from .people import SPEAKING, Listener, write_tone


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


def media_sections(sdp: str) -> list[str]:
    return sdp.split("\r\nm=")[1:]


async def first_speaker(call: Call) -> Speaker:
    with anyio.fail_after(10):
        return await anext(call.speakers())


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


class TestOffers:
    async def test_everything_but_one_audio_is_declined(self, tmp_path: Path) -> None:
        tone = AudioFile(write_tone(tmp_path / "tone.wav", 440))
        other = AudioFile(write_tone(tmp_path / "other.wav", 1_000))
        async with (
            open_room() as room,
            publisher(tone, VideoStreamTrack(), other) as pc,
            Call(as_room(room)) as call,
            anyio.create_task_group() as tasks,
        ):
            room.add("alice")
            listener = Listener(await first_speaker(call))
            tasks.start_soon(listener.run)
            answer = await connect_publisher(room, "alice", pc, "1")
            await listener.wait_for_pitch(440)
            audio, video, second_audio = media_sections(answer)
            assert audio.startswith("audio") and "a=recvonly" in audio
            assert video.startswith("video") and "a=inactive" in video
            assert second_audio.startswith("audio") and "a=inactive" in second_audio
            tasks.cancel_scope.cancel()

    @pytest.mark.parametrize(
        "sdp",
        [
            "",
            "garbage",
            "v=0\r\nm=audio x y z\r\n",
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
            "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n",
        ],
    )
    async def test_an_unusable_offer_hurts_nobody_else(
        self, tmp_path: Path, sdp: str
    ) -> None:
        tone = AudioFile(write_tone(tmp_path / "tone.wav", 440))
        async with (
            open_room() as room,
            publisher(tone) as pc,
            Call(as_room(room)) as call,
            anyio.create_task_group() as tasks,
        ):
            for name in ("mallory", "alice"):
                room.add(name)
            listeners = {}
            speakers = call.speakers()
            for _ in range(2):
                speaker = await anext(speakers)
                listeners[speaker.session_id] = Listener(speaker)
                tasks.start_soon(listeners[speaker.session_id].run)
            await room.next_request("requestoffer", "mallory")
            room.offer("mallory", "666", sdp)
            await connect_publisher(room, "alice", pc, "1")
            await listeners["alice"].wait_for_pitch(440)
            # Mallory gets another chance.
            await room.next_request("requestoffer", "mallory")
            assert not listeners["mallory"].ended.is_set()
            tasks.cancel_scope.cancel()

    async def test_nobody_can_offer_in_anothers_name(self, tmp_path: Path) -> None:
        tone = AudioFile(write_tone(tmp_path / "tone.wav", 440))
        forged = AudioFile(write_tone(tmp_path / "forged.wav", 1_000))
        async with (
            open_room() as room,
            publisher(forged) as theirs,
            publisher(tone) as pc,
            Call(as_room(room)) as call,
            anyio.create_task_group() as tasks,
        ):
            room.add("alice")
            listener = Listener(await first_speaker(call))
            tasks.start_soon(listener.run)
            await room.next_request("requestoffer", "alice")
            payload = {"type": "offer", "sdp": theirs.localDescription.sdp}
            room.signal("mallory", "offer", "666", payload=payload, **{"from": "alice"})
            with anyio.move_on_after(0.5):
                await room.next_request("answer", "alice")
                raise AssertionError("a forged offer was answered")
            room.offer("alice", "1", pc.localDescription.sdp)
            _, answer = await room.next_request("answer", "alice")
            assert answer["sid"] == "1"
            tasks.cancel_scope.cancel()

    async def test_odd_candidates_are_ignored(self, tmp_path: Path) -> None:
        tone = AudioFile(write_tone(tmp_path / "tone.wav", 440))
        async with (
            open_room() as room,
            publisher(tone) as pc,
            Call(as_room(room)) as call,
            anyio.create_task_group() as tasks,
        ):
            room.add("alice")
            listener = Listener(await first_speaker(call))
            tasks.start_soon(listener.run)
            await connect_publisher(room, "alice", pc, "1")
            for candidate in (
                {},
                {"candidate": ""},
                {"candidate": "nonsense", "sdpMLineIndex": 0},
                {"candidate": "candidate:1 1 UDP 1 nowhere 1 typ host", "sdpMid": "7"},
                {"candidate": 5},
            ):
                room.signal("alice", "candidate", "1", payload={"candidate": candidate})
            await listener.wait_for_pitch(440)
            assert listener.speaker.stats.requests == 1
            tasks.cancel_scope.cancel()

    async def test_peers_that_never_connect_leave_no_task(self, tmp_path: Path) -> None:
        tone = AudioFile(write_tone(tmp_path / "tone.wav", 440))
        async with (
            open_room() as room,
            publisher(tone) as pc,
            Call(as_room(room)) as call,
            anyio.create_task_group() as tasks,
        ):
            room.add("alice")
            listener = Listener(await first_speaker(call))
            tasks.start_soon(listener.run)
            await room.next_request("requestoffer", "alice")
            for sid in ("1", "2", "3", "4"):
                # Our answer is never used.
                room.offer("alice", sid, pc.localDescription.sdp)
                _, answer = await room.next_request("answer", "alice")
                assert answer["sid"] == sid
            names = [task.get_name() for task in asyncio.all_tasks()]
            assert len([name for name in names if "_hear" in name]) == 1
            tasks.cancel_scope.cancel()

    async def test_an_error_about_one_request_is_tried_again(self) -> None:
        async with (
            open_room() as room,
            Call(as_room(room)) as call,
            anyio.create_task_group() as tasks,
        ):
            room.add("alice")
            listener = Listener(await first_speaker(call))
            tasks.start_soon(listener.run)
            request_id, data = await room.next_request("requestoffer", "alice")
            assert data == {"type": "requestoffer", "roomType": "video"}
            error = RequestFailed("client_not_found")
            room.happen(RequestErrored(request_id=request_id, error=error))
            await room.next_request("requestoffer", "alice")
            tasks.cancel_scope.cancel()

    async def test_a_defect_of_ours_stays_with_its_speaker(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with (
            open_room() as room,
            Call(as_room(room)) as call,
            anyio.create_task_group() as tasks,
        ):
            room.add("alice")
            listener = Listener(await first_speaker(call))
            failures = iter([RuntimeError("a defect")])
            send = room.send

            def fail_once(message: Message, *, keep_s: float = 0.0) -> str:
                for failure in failures:
                    raise failure
                return send(message, keep_s=keep_s)

            monkeypatch.setattr(room, "send", fail_once)
            tasks.start_soon(listener.run)
            await room.next_request("requestoffer", "alice")
            assert "begins anew" in caplog.text
            tasks.cancel_scope.cancel()


class TestSpeakers:
    async def test_only_those_with_audio_once_per_appearance(self) -> None:
        async with open_room() as room:
            there = room.add("there")
            room.add("silent", InCallFlags.IN_CALL)
            async with Call(as_room(room)) as call:
                speakers = call.speakers()
                first = await anext(speakers)
                assert first.session_id == "there"
                named = Participant(
                    session_id="there", display_name="New name", in_call=SPEAKING
                )
                room.happen(ParticipantChanged(before=there, participant=named))
                room.happen(ParticipantLeft(participant=named))
                room.happen(ParticipantJoined(participant=there))
                second = await anext(speakers)
                assert second is not first and second.session_id == "there"
                assert first.participant.display_name == "New name"
                assert [chunk async for chunk in first.audio()] == []

    async def test_the_iteration_ends_when_we_are_put_out(self) -> None:
        async with open_room() as room, Call(as_room(room)) as call:
            speaker = room.add("alice")
            room.happen(ParticipantLeft(participant=speaker))
            room.happen(RoomLeft(room_token="demoroom"))
            with anyio.fail_after(5):
                found = [one.session_id async for one in call.speakers()]
            assert found == ["alice"]

    async def test_a_cancelled_consumer_loses_nobody(self) -> None:
        async with open_room() as room, Call(as_room(room)) as call:
            with anyio.move_on_after(0.05):
                await anext(call.speakers())
            room.add("alice")
            assert (await first_speaker(call)).session_id == "alice"

    async def test_too_many_untaken_speakers_end_the_call(self) -> None:
        async with open_room() as room:
            for number in range(3):
                room.add(str(number))
            with pytest.raises(EventsLagged):
                async with Call(as_room(room), options=CallOptions(speaker_limit=2)):
                    await anyio.sleep(5)

    async def test_a_speaker_outlives_its_call_harmlessly(self) -> None:
        async with open_room() as room:
            room.add("alice")
            async with Call(as_room(room)) as call:
                speaker = await first_speaker(call)
            with anyio.fail_after(5):
                assert [chunk async for chunk in speaker.audio()] == []


class TestPublishing:
    async def test_it_waits_for_the_room_and_begins_anew_with_a_new_session(
        self, tmp_path: Path
    ) -> None:
        async with open_room() as room, Call(as_room(room)) as call:
            room.joined = False
            publication = await call.publish(
                AudioFile(write_tone(tmp_path / "tone.wav", 440))
            )
            await anyio.lowlevel.checkpoint()
            assert room.requests.statistics().current_buffer_used == 0
            room.joined = True
            room.happen(RoomJoined(room_token="demoroom", properties={}))
            _, first = await room.next_request("offer", "ourselves")
            room.joined = False
            room.happen(
                SessionStarted(session_id="x", server_version="2", features=frozenset())
            )
            room.joined = True
            room.happen(RoomJoined(room_token="demoroom", properties={}))
            _, second = await room.next_request("offer", "ourselves")
            assert first["sid"] != second["sid"]
            assert not publication.connected
            with pytest.raises(MediaError, match=r"within 0\.1 s"):
                await publication.wait_connected(0.1)

    async def test_a_refused_offer_is_made_again(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with open_room() as room, Call(as_room(room)) as call:
            publication = await call.publish(
                AudioFile(write_tone(tmp_path / "tone.wav", 440))
            )
            request_id, _ = await room.next_request("offer", "ourselves")
            error = RequestFailed("not_allowed", "Not allowed to publish.")
            room.happen(RequestErrored(request_id=request_id, error=error))
            await room.next_request("offer", "ourselves")
            assert "Not allowed to publish." in caplog.text
            publication.stop()

    async def test_an_unusable_answer_is_survived(self, tmp_path: Path) -> None:
        async with open_room() as room, Call(as_room(room)) as call:
            await call.publish(AudioFile(write_tone(tmp_path / "tone.wav", 440)))
            _, offer = await room.next_request("offer", "ourselves")
            payload = {"type": "answer", "sdp": "garbage"}
            room.signal("ourselves", "answer", offer["sid"], payload=payload)
            _, again = await room.next_request("offer", "ourselves")
            assert again["sid"] != offer["sid"]


class TestLeaving:
    async def test_a_call_ends_promptly_and_leaves_nothing(
        self, tmp_path: Path
    ) -> None:
        """Also when cancelled in the middle of connecting."""
        path = write_tone(tmp_path / "tone.wav", 440)
        # The first peer connection starts what stays for the process.
        await self.listen_and_leave(path, connect=True)
        with no_leaks():
            for connect in (True, False):
                with anyio.fail_after(10):
                    await self.listen_and_leave(path, connect=connect)
            for _ in range(100):
                await anyio.lowlevel.checkpoint()

    async def listen_and_leave(self, path: Path, *, connect: bool) -> None:
        async with (
            open_room() as room,
            publisher(AudioFile(path)) as pc,
            Call(as_room(room)) as call,
            anyio.create_task_group() as tasks,
        ):
            await call.publish(AudioFile(path))
            room.add("alice")
            listener = Listener(await first_speaker(call))
            tasks.start_soon(listener.run)
            if connect:
                await connect_publisher(room, "alice", pc, "1")
                await listener.wait_for_pitch(440)
            else:
                await room.next_request("requestoffer", "alice")
                room.offer("alice", "1", pc.localDescription.sdp)
            started = anyio.current_time()
            tasks.cancel_scope.cancel()
        assert anyio.current_time() - started < 5


def test_ice_servers_keep_their_secrets() -> None:
    server = IceServer(urls=("turn:x",), username="u", credential="hush")
    assert "hush" not in repr(server)
