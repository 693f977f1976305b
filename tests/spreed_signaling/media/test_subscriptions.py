"""Calls against a scripted server: who is heard, and what is sent when."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import attrs
import pytest

from spreed_signaling import (
    EventsLagged,
    IceServer,
    InCallFlags,
    Participant,
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
    RequestErrored,
    RequestFailed,
    RoomJoined,
    RoomLeft,
    SessionStarted,
)
from spreed_signaling.media import AudioFile, Call, CallOptions, MediaError

from ..harness import no_leaks
from .people import SPEAKING, Listener, write_tone
from .scripted_room import (
    as_room,
    connect_publisher,
    first_speaker,
    open_room,
    publisher,
)


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

    async def test_a_name_that_comes_later_is_filled_in(self) -> None:
        early = Participant(session_id="pia", in_call=SPEAKING)
        named = attrs.evolve(early, display_name="Pia")
        async with open_room() as room:
            async with Call(as_room(room)) as call:
                speakers = call.speakers()
                room.happen(ParticipantJoined(participant=early))
                speaker = await anext(speakers)
                assert speaker.participant.display_name == ""
                room.happen(ParticipantChanged(before=early, participant=named))
                room.add("next")
                # Nobody else came meanwhile.
                assert (await anext(speakers)).session_id == "next"
                assert speaker.participant.display_name == "Pia"

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
