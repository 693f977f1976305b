# SPDX-License-Identifier: AGPL-3.0-or-later
"""The people of the demo: talkers who speak a clip, a reader who wants captions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from attrs import define, field

from spreed_signaling import Client, DataReceived, InCallFlags, Room, connect
from spreed_signaling.media import AudioFile, Call
from spreed_signaling.testing import Member, StandInNextcloud

from .clips import Clip
from .stage import ROOM, DemoFailed, Stage

__all__ = ["Reader", "ShowCaption", "Talker"]

ShowCaption = Callable[[str, str, bool, str], None]
"""Called with speaker, text, whether it is final, and the language."""

_STAGGER_S = 2.0
"""Seconds between the starts of two talkers: they overlap, as people do."""


@define(kw_only=True, eq=False)
class Talker:
    """A participant who publishes one clip and then falls silent."""

    clip: Clip
    position: int
    """Place in the order of speaking, from 0."""
    audio: AudioFile = field(init=False)
    ready: anyio.Event = field(factory=anyio.Event)
    """Set once the SFU takes this talker's audio."""

    def __attrs_post_init__(self) -> None:
        self.audio = AudioFile(
            self.clip.path, paused=True, lead_s=self.position * _STAGGER_S
        )

    @property
    def name(self) -> str:
        """Display name in the call."""
        return self.clip.name

    async def attend(self, stage: Stage) -> None:
        """Join the call and publish until cancelled."""
        nextcloud = stage.nextcloud
        user_id = self.name.lower().replace(" ", ".")
        member = nextcloud.add_member(ROOM, user_id, self.name)
        async with (
            connect(stage.server.url, member.auth) as client,
            client.join(ROOM, nc_session_id=member.nc_session_id) as room,
            Call(room) as call,
        ):
            await nextcloud.join_call(
                member, flags=InCallFlags.IN_CALL | InCallFlags.WITH_AUDIO
            )
            publication = await call.publish(self.audio)
            await publication.wait_connected()
            self.ready.set()
            await anyio.sleep_forever()


class Reader:
    """A participant who only reads: presses CC and receives transcripts.

    Args:
        stage: Where it all happens.
        show: Called with every caption.
    """

    def __init__(self, stage: Stage, show: ShowCaption) -> None:
        self._stage = stage
        self._show = show
        self._member: Member | None = None
        self._room: Room | None = None
        self.ready = anyio.Event()
        """Set once the reader is in the call."""
        self.last_caption_at: float | None = None

    async def attend(self) -> None:
        """Join the call and read until cancelled."""
        nextcloud: StandInNextcloud = self._stage.nextcloud
        member = nextcloud.add_member(ROOM, "rita.reader", "Rita Reader")
        async with (
            connect(self._stage.server.url, member.auth) as client,
            client.join(ROOM, nc_session_id=member.nc_session_id) as room,
        ):
            await nextcloud.join_call(member, flags=InCallFlags.IN_CALL)
            self._member, self._room = member, room
            await self._read(client)

    async def _read(self, client: Client) -> None:
        with client.subscribe() as events:
            self.ready.set()
            async for event in events:
                if isinstance(event, DataReceived):
                    self._receive(event.data)

    def _receive(self, data: Any) -> None:
        """Read a transcript message exactly as Talk's web client does."""
        if not isinstance(data, dict) or data.get("type") != "transcript":
            return
        speaker = data.get("speakerSessionId", "")
        assert self._room is not None, "messages come after joining"
        participant = self._room.participants.get(speaker)
        name = participant.display_name if participant else "somebody who left"
        self.last_caption_at = anyio.current_time()
        # `final` absent means final.
        final = data.get("final", True) is not False
        self._show(name, data.get("message", ""), final, data.get("langId", ""))

    async def press_cc(self, enable: bool) -> float:
        """Press the captions button.

        Returns:
            How long the ExApp took to answer, milliseconds.

        Raises:
            DemoFailed: If it answered with an error.
        """
        assert self._member is not None, "wait for `ready` first"
        before = anyio.current_time()
        answer = await self._stage.nextcloud.press_cc(self._member, enable)
        took_ms = (anyio.current_time() - before) * 1000
        if answer.status_code != 200:
            raise DemoFailed(
                f"the ExApp refused captions: HTTP {answer.status_code} {answer.text}"
            )
        return took_ms
