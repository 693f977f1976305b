# SPDX-License-Identifier: AGPL-3.0-or-later
"""Hearing a call: a feed for each speaker, as long as she can be heard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from spreed_signaling import Room

from .books import Losses
from .delivery import CaptionDelivery
from .roomlog import RoomLog
from .services import CallServices
from .speakers import SpeakerFeed

if TYPE_CHECKING:
    from spreed_signaling.media import Call as MediaCall
    from spreed_signaling.media import Speaker

__all__ = ["Hearing"]


class Hearing:
    """Everybody who speaks in one call.

    Args:
        room_token: Talk's conversation token.
        lang_id: What they speak.
        services: The recogniser, and how many may use it.
        captions: Gets the words.
    """

    def __init__(
        self,
        room_token: str,
        lang_id: str,
        services: CallServices,
        captions: CaptionDelivery,
    ) -> None:
        self._log = RoomLog(room_token)
        self._lang_id = lang_id
        self._services = services
        self._captions = captions
        self._feeds: dict[str, SpeakerFeed] = {}
        self._past = Losses()
        """Of speakers who left."""

    @property
    def busy(self) -> bool:
        """Whether words may still come."""
        return any(feed.running for feed in self._feeds.values())

    def losses(self) -> Losses:
        """Return what went wrong so far, of all speakers."""
        losses = Losses()
        losses.add(self._past)
        for feed in self._feeds.values():
            losses.add(feed.losses)
        return losses

    def status(self) -> list[dict[str, Any]]:
        """Return how each speaker is doing; no names and no words."""
        return [feed.status() for feed in self._feeds.values()]

    def set_language(self, lang_id: str) -> None:
        """Expect another language from now on."""
        self._lang_id = lang_id
        for feed in self._feeds.values():
            feed.set_language(lang_id)

    def stop(self) -> None:
        """Bring out everybody's last words."""
        for feed in self._feeds.values():
            feed.stop()

    async def listen(self, room: Room) -> None:
        """Hear everybody in the room until cancelled, or until it is over."""
        ice_servers = await self._services.ice_servers()
        # In a thread: requests are answered meanwhile.
        media_call = await anyio.to_thread.run_sync(_load_media)
        async with (
            media_call(room, ice_servers=ice_servers) as call,
            anyio.create_task_group() as tasks,
        ):
            async for speaker in call.speakers():
                tasks.start_soon(self._hear, speaker)

    async def _hear(self, speaker: Speaker) -> None:
        feed = SpeakerFeed(
            speaker,
            backend=self._services.backend,
            lang_id=self._lang_id,
            listener=self._captions,
            log=self._log,
        )
        self._feeds[feed.session_id] = feed
        try:
            async with self._services.places:
                await feed.run()
        finally:
            if self._feeds.get(feed.session_id) is feed:
                del self._feeds[feed.session_id]
            self._past.add(feed.losses)
            self._captions.forget(feed.session_id)


def _load_media() -> type[MediaCall]:
    """Import WebRTC, which takes a third of the app's start, for the first call."""
    from spreed_signaling.media import Call

    return Call
