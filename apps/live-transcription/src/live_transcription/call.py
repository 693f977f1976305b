# SPDX-License-Identifier: AGPL-3.0-or-later
"""One call: signaling, media, recognisers and captions in one task group.

Started from a `CallIntent` and nothing else that belongs to the call, so that it
could run in another process. Methods that are not `async` only note what is wanted
and return.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio
from attrs import field, frozen

from kyutai_stream import Backend
from spreed_signaling import (
    CallEnded,
    DataReceived,
    Disconnected,
    IceServer,
    InCallFlags,
    ParticipantChanged,
    RequestErrored,
    Room,
    RoomLeft,
    SessionEvent,
    SessionFinished,
    SignalingError,
    is_encryption_signal,
)

from .captions import CaptionPolicy, CaptionRules
from .config import Settings
from .gate import Gate
from .intent import CallIntent
from .presence import Presence
from .readers import Readers
from .speakers import SpeakerFeed

if TYPE_CHECKING:
    from spreed_signaling.media import Call as MediaCall
    from spreed_signaling.media import Speaker

__all__ = ["CallIntent", "CallServices", "LiveCall"]

_log = logging.getLogger(__name__)

FINISH_S = 4.0
"""Longest wait for the last words of all speakers when a call is left."""

ENCRYPTED = "the call is end-to-end encrypted, so its speech cannot be heard"

_REMEMBERED_REQUESTS = 1000


@frozen(kw_only=True)
class CallServices:
    """What a call uses of the process it runs in."""

    settings: Settings
    backend: Backend
    places: anyio.CapacityLimiter
    """One token for each speaker who may be transcribed at the same time."""
    ice_servers: Callable[[], Awaitable[tuple[IceServer, ...]]] = field(repr=False)
    """Asked once for each call; never raises, bounded."""
    gate: Gate
    """Who may try while the signaling server refuses us."""


class LiveCall:
    """Captions for one room, from the first reader to the last word.

    Args:
        intent: What was asked for.
        services: What it uses of its process.
    """

    def __init__(self, intent: CallIntent, services: CallServices) -> None:
        self.room_token = intent.room_token
        self.lang_id = intent.lang_id
        self._services = services
        settings = services.settings
        self._readers = Readers(
            intent.readers,
            leave_after_s=settings.leave_after_s,
            now=anyio.current_time(),
        )
        self._policy = CaptionPolicy(CaptionRules(partials=settings.partials))
        self._presence = Presence(
            intent.room_token,
            settings,
            services.gate,
            on_event=self._take,
            in_room=self._listen,
        )
        self._feeds: dict[str, SpeakerFeed] = {}
        self._departed: set[str] = set()
        self._encrypted = False
        self._caption_requests: deque[str] = deque(maxlen=_REMEMBERED_REQUESTS)
        self._company = False
        self._ended = anyio.Event()
        self._wake = anyio.Event()
        self._log_fields = {"room_token": intent.room_token}
        self._past = {"gaps": 0, "gap_s": 0.0, "dropped_s": 0.0, "errors": 0}
        self.end_reason = ""
        """Why the call was left, in plain words; empty while it is wanted."""
        self.captions_sent = 0
        self.captions_undelivered = 0
        self.last_error = ""

    # What is wanted. Never waits.

    @property
    def ending(self) -> bool:
        """Whether the call is being left."""
        return self._ended.is_set()

    def intent(self) -> CallIntent:
        """Return what is wanted now, to start the call again elsewhere."""
        return CallIntent(
            room_token=self.room_token,
            readers=self._readers.asked,
            lang_id=self.lang_id,
        )

    def add_reader(self, nc_session_id: str) -> None:
        """Send captions to this Nextcloud session, as soon as it can be reached."""
        self._readers.add(nc_session_id, anyio.current_time())
        self._look_for_readers()

    def remove_reader(self, nc_session_id: str) -> None:
        """Send no more captions to this Nextcloud session."""
        self._readers.remove(nc_session_id, anyio.current_time())
        self._look_for_readers()

    def set_language(self, lang_id: str) -> None:
        """Expect another language from now on."""
        self.lang_id = lang_id
        for feed in self._feeds.values():
            feed.set_language(lang_id)

    def retry_now(self) -> None:
        """A person asked: skip the pause before the next attempt to connect."""
        self._presence.retry_now()

    def end(self, reason: str) -> None:
        """Leave: bring out the last words, say goodbye."""
        if not self._ended.is_set():
            self.end_reason = reason
            self._ended.set()

    # CaptionListener: what the speakers say.

    @property
    def wanted(self) -> bool:
        """Whether anybody asked for captions and may get them."""
        return bool(self._readers.asked) and not self._encrypted

    def partial(self, session_id: str, text: str, lang_id: str) -> None:
        """A sentence grew."""
        self._policy.partial(session_id, text, lang_id, anyio.current_time())
        self._send()

    def final(self, session_id: str, text: str, lang_id: str) -> None:
        """A sentence is complete."""
        self._policy.final(session_id, text, lang_id, anyio.current_time())
        self._send()

    def close(self, session_id: str) -> None:
        """No more words of the open sentence will come."""
        self._policy.close(session_id, anyio.current_time())
        self._send()

    # The call itself.

    async def run(self) -> None:
        """Be in the call until it ends, nobody wants captions, or `end`.

        One call for each object. Survives lost connections; when cancelled it
        leaves the room but the last words are lost.

        Raises:
            SignalingError: If the server put us out for good.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stay)
            tasks.start_soon(self._keep_time)
            await self._ended.wait()
            await self._finish()
            tasks.cancel_scope.cancel()

    async def _stay(self) -> None:
        await self._presence.keep()
        self.end("the session is over")

    def _take(self, event: SessionEvent) -> None:
        self._note(event)
        self._look_for_readers()

    def _note(self, event: SessionEvent) -> None:
        match event:
            case CallEnded():
                self.end("the call ended")
            case RoomLeft(room_token=self.room_token, error=error):
                if error is not None:
                    raise error
                self.end("put out of the room")
            case SessionFinished(error=error) if error is not None:
                raise error
            case Disconnected(error=error):
                self._failed(error)
            case RequestErrored(request_id=request_id):
                if request_id in self._caption_requests:
                    # A reader who has just left; the others are not concerned.
                    self.captions_undelivered += 1
            case DataReceived(data=data) if is_encryption_signal(data):
                self._note_encryption()
            case ParticipantChanged(before=before, participant=participant):
                in_call = InCallFlags.IN_CALL
                if participant.in_call & in_call:
                    self._departed.discard(participant.session_id)
                elif before.in_call & in_call:
                    self._departed.add(participant.session_id)

    def _note_encryption(self) -> None:
        """What we hear is noise from now on: captions of it would be invented."""
        if not self._encrypted:
            self._encrypted = True
            _log.warning("no captions: %s", ENCRYPTED, extra=self._log_fields)

    def _failed(self, error: Exception) -> None:
        text = str(error)
        if text != self.last_error:
            # Once for each kind of trouble, not for each attempt.
            _log.warning("%s", text, extra=self._log_fields)
        self.last_error = text

    @property
    def _room(self) -> Room | None:
        return self._presence.room

    def _look_for_readers(self) -> None:
        now = anyio.current_time()
        joined = self._presence.joined
        people = [] if self._room is None else self._room.participants.values()
        self._company = company = any(
            one.in_call & InCallFlags.IN_CALL and not one.internal for one in people
        )
        self._readers.update(self._find, joined=joined, company=company, now=now)
        self._policy.set_readers(self._readers.reached, now)
        self._send()

    def _find(self, nc_session_id: str) -> str | None:
        if self._room is None:
            return None
        found = self._room.find_nc_session(nc_session_id)
        if found is None:
            return None
        # Who left the call gets no more of it. When everybody left at once the
        # call was ended, and the last words are still owed to the readers.
        gone = found.session_id in self._departed and self._company
        return None if gone else found.session_id

    async def _listen(self, room: Room) -> None:
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
            lang_id=self.lang_id,
            listener=self,
            room_token=self.room_token,
        )
        self._feeds[feed.session_id] = feed
        try:
            async with self._services.places:
                await feed.run()
        finally:
            if self._feeds.get(feed.session_id) is feed:
                del self._feeds[feed.session_id]
            self._remember(feed)
            self._policy.forget(feed.session_id, anyio.current_time())
            self._send()

    def _remember(self, feed: SpeakerFeed) -> None:
        """Keep the counters of a speaker who left."""
        self._past["gaps"] += feed.gaps
        self._past["gap_s"] += feed.gap_s
        self._past["dropped_s"] += feed.dropped_s
        self._past["errors"] += feed.errors

    def _send(self) -> None:
        for message in self._policy.messages_to_send():
            if self._room is None:
                self.captions_undelivered += 1
                continue
            try:
                request_id = self._room.send_data(
                    message.reader_session_id, message.data()
                )
            except SignalingError:
                # The session is over; its end is reported elsewhere.
                self.captions_undelivered += 1
                continue
            self._caption_requests.append(request_id)
            self.captions_sent += 1
        wake, self._wake = self._wake, anyio.Event()
        wake.set()

    async def _keep_time(self) -> None:
        """Do what is due: held captions, readers given up, leaving."""
        while True:
            wake = self._wake
            leave_at, caption_at = self._readers.leave_at(), self._policy.deadline()
            due = [at for at in (leave_at, caption_at) if at is not None]
            with anyio.CancelScope(deadline=min(due, default=float("inf"))):
                await wake.wait()
            now = anyio.current_time()
            if leave_at is not None and now >= leave_at:
                self._look_for_readers()
                leave_at = self._readers.leave_at()
                if leave_at is not None and now >= leave_at:
                    self.end("nobody wants captions any more")
                    return
            self._policy.tick(now)
            self._send()

    async def _finish(self) -> None:
        """Bring out the last words, bounded."""
        for feed in self._feeds.values():
            feed.stop()
        with anyio.move_on_after(FINISH_S):
            while any(feed.running for feed in self._feeds.values()):
                # Each speaker who ends sends something or at least wakes us.
                await self._wake.wait()
        self._policy.stop(anyio.current_time())
        self._send()

    # For people.

    def status(self) -> dict[str, Any]:
        """Return how the call is doing, in plain words; no names, no speech."""
        state, detail = self._presence.describe()
        if self.ending:
            state, detail = "leaving", self.end_reason
        elif self._encrypted and state == "in call":
            state, detail = "encrypted", ENCRYPTED
        feeds = list(self._feeds.values())
        past = self._past
        return {
            "room_token": self.room_token,
            "state": state,
            "detail": detail,
            "lang_id": self.lang_id,
            "readers": {
                "receiving": len(self._readers.reached),
                "waiting": self._readers.waiting,
            },
            "speakers": [feed.status() for feed in feeds],
            "captions_sent": self.captions_sent,
            "captions_undelivered": self.captions_undelivered,
            "gaps": past["gaps"] + sum(feed.gaps for feed in feeds),
            "gap_s": round(past["gap_s"] + sum(feed.gap_s for feed in feeds), 2),
            "dropped_s": round(
                past["dropped_s"] + sum(feed.dropped_s for feed in feeds), 2
            ),
            "errors": past["errors"] + sum(feed.errors for feed in feeds),
            "last_error": self.last_error,
        }


def _load_media() -> type[MediaCall]:
    """Import WebRTC, which takes a third of the app's start, for the first call."""
    from spreed_signaling.media import Call

    return Call
