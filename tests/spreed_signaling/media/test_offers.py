"""Offers of a scripted server: odd ones, forged ones, and errors instead."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from aiortc import VideoStreamTrack

from spreed_signaling import RequestErrored, RequestFailed
from spreed_signaling.media import AudioFile, Call
from spreed_signaling.protocol.messages import Message

from .people import Listener, write_tone
from .scripted_room import (
    as_room,
    connect_publisher,
    first_speaker,
    hearing_alice,
    open_room,
    publisher,
)


def media_sections(sdp: str) -> list[str]:
    return sdp.split("\r\nm=")[1:]


class TestOffers:
    async def test_everything_but_one_audio_is_declined(self, tmp_path: Path) -> None:
        tone = AudioFile(write_tone(tmp_path / "tone.wav", 440))
        other = AudioFile(write_tone(tmp_path / "other.wav", 1_000))
        async with (
            open_room() as room,
            publisher(tone, VideoStreamTrack(), other) as pc,
            hearing_alice(room) as listener,
        ):
            answer = await connect_publisher(room, "alice", pc, "1")
            await listener.wait_for_pitch(440)
            audio, video, second_audio = media_sections(answer)
            assert audio.startswith("audio") and "a=recvonly" in audio
            assert video.startswith("video") and "a=inactive" in video
            assert second_audio.startswith("audio") and "a=inactive" in second_audio

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
            hearing_alice(room),
        ):
            await room.next_request("requestoffer", "alice")
            payload = {"type": "offer", "sdp": theirs.localDescription.sdp}
            room.signal("mallory", "offer", "666", payload=payload, **{"from": "alice"})
            with anyio.move_on_after(0.5):
                await room.next_request("answer", "alice")
                raise AssertionError("a forged offer was answered")
            room.offer("alice", "1", pc.localDescription.sdp)
            _, answer = await room.next_request("answer", "alice")
            assert answer["sid"] == "1"

    async def test_odd_candidates_are_ignored(self, tmp_path: Path) -> None:
        tone = AudioFile(write_tone(tmp_path / "tone.wav", 440))
        async with (
            open_room() as room,
            publisher(tone) as pc,
            hearing_alice(room) as listener,
        ):
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

    async def test_peers_that_never_connect_leave_no_task(self, tmp_path: Path) -> None:
        tone = AudioFile(write_tone(tmp_path / "tone.wav", 440))
        async with (
            open_room() as room,
            publisher(tone) as pc,
            hearing_alice(room),
        ):
            await room.next_request("requestoffer", "alice")
            for sid in ("1", "2", "3", "4"):
                # Our answer is never used.
                room.offer("alice", sid, pc.localDescription.sdp)
                _, answer = await room.next_request("answer", "alice")
                assert answer["sid"] == sid
            names = [task.get_name() for task in asyncio.all_tasks()]
            assert len([name for name in names if "_hear" in name]) == 1

    async def test_an_error_about_one_request_is_tried_again(self) -> None:
        async with (
            open_room() as room,
            hearing_alice(room),
        ):
            request_id, data = await room.next_request("requestoffer", "alice")
            assert data == {"type": "requestoffer", "roomType": "video"}
            error = RequestFailed("client_not_found")
            room.happen(RequestErrored(request_id=request_id, error=error))
            await room.next_request("requestoffer", "alice")

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
