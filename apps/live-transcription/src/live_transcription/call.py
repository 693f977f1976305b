# SPDX-License-Identifier: AGPL-3.0-or-later
"""One call: signaling, media, recognisers and captions in one task group.

Started from a `CallIntent` and nothing else that belongs to the call, so that it
could run in another process. Methods that are not `async` only note what is wanted
and return.
"""

from __future__ import annotations

import logging
from typing import Any

import anyio

from spreed_signaling import (
    CallEnded,
    DataReceived,
    Disconnected,
    InCallFlags,
    ParticipantChanged,
    RequestErrored,
    RoomJoined,
    RoomLeft,
    SessionEvent,
    SessionFinished,
    SessionResumed,
    is_encryption_signal,
)

from .captions import CaptionRules
from .delivery import CaptionDelivery
from .hearing import Hearing
from .intent import CallIntent
from .presence import Presence
from .readers import Readers
from .services import CallServices

__all__ = ["LiveCall"]

_log = logging.getLogger(__name__)

FINISH_S = 4.0
"""Longest wait for the last words of all speakers when a call is left."""

ENCRYPTED = "the call is end-to-end encrypted, so its speech cannot be heard"


class LiveCall:
    """Captions for one room, from the first reader to the last word.

    Args:
        intent: What was asked for.
        services: What it uses of its process.
    """

    def __init__(self, intent: CallIntent, services: CallServices) -> None:
        self.room_token = intent.room_token
        self.lang_id = intent.lang_id
        settings = services.settings
        self._readers = Readers(
            intent.readers,
            leave_after_s=settings.leave_after_s,
            now=anyio.current_time(),
        )
        self._captions = CaptionDelivery(
            CaptionRules(partials=settings.partials),
            room=lambda: self._presence.room,
            wanted=lambda: bool(self._readers.asked) and not self._encrypted,
        )
        self._hearing = Hearing(
            intent.room_token, intent.lang_id, services, self._captions
        )
        self._presence = Presence(
            intent.room_token,
            settings,
            services.gate,
            on_event=self._take,
            in_room=self._hearing.listen,
        )
        self._departed: set[str] = set()
        self._company = False
        self._encrypted = False
        self._ended = anyio.Event()
        self._log_fields = {"room_token": intent.room_token}
        self.end_reason = ""
        """Why the call was left, in plain words; empty while it is wanted."""
        self.last_error = ""
        self._trouble = ""
        """What the log was told of and has not passed; empty if nothing."""

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
        self._hearing.set_language(lang_id)

    def retry_now(self) -> None:
        """A person asked: skip the pause before the next attempt to connect."""
        self._presence.retry_now()

    def end(self, reason: str) -> None:
        """Leave: bring out the last words, say goodbye."""
        if not self._ended.is_set():
            self.end_reason = reason
            self._ended.set()

    # The call itself.

    async def run(self) -> None:
        """Be in the call until it ends, nobody wants captions, or `end`.

        One call for each object. Survives lost connections; when cancelled it
        leaves the room but the last words are lost.

        Raises:
            SignalingError: If the server put us out for good.
        """
        async with anyio.create_task_group() as tasks:
            _log.info("captions are wanted: joining the call", extra=self._log_fields)
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
            case RoomJoined(room_token=self.room_token):
                self._connected("in the call")
            case SessionResumed():
                self._connected("connected again")
            case RequestErrored(request_id=request_id):
                self._captions.note_error(request_id)
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
        self.last_error = text = str(error)
        if text != self._trouble:
            # Once for each kind of trouble, not for each attempt.
            _log.warning("%s", text, extra=self._log_fields)
        self._trouble = text

    def _connected(self, text: str) -> None:
        self._trouble = ""
        _log.info("%s", text, extra=self._log_fields)

    def _look_for_readers(self) -> None:
        room = self._presence.room
        people = [] if room is None else room.participants.values()
        self._company = any(
            one.in_call & InCallFlags.IN_CALL and not one.internal for one in people
        )
        self._readers.update(
            self._find,
            joined=self._presence.joined,
            company=self._company,
            now=anyio.current_time(),
        )
        self._captions.set_readers(self._readers.reached)

    def _find(self, nc_session_id: str) -> str | None:
        room = self._presence.room
        if room is None:
            return None
        found = room.find_nc_session(nc_session_id)
        if found is None:
            return None
        # Who left the call gets no more of it. When everybody left at once the
        # call was ended, and the last words are still owed to the readers.
        gone = found.session_id in self._departed and self._company
        return None if gone else found.session_id

    async def _keep_time(self) -> None:
        """Do what is due: held captions, readers given up, leaving."""
        while True:
            changed = self._captions.changed
            leave_at, caption_at = self._readers.leave_at(), self._captions.deadline()
            due = [at for at in (leave_at, caption_at) if at is not None]
            with anyio.CancelScope(deadline=min(due, default=float("inf"))):
                await changed.wait()
            now = anyio.current_time()
            if leave_at is not None and now >= leave_at:
                self._look_for_readers()
                leave_at = self._readers.leave_at()
                if leave_at is not None and now >= leave_at:
                    self.end("nobody wants captions any more")
                    return
            self._captions.tick()

    async def _finish(self) -> None:
        """Bring out the last words, bounded."""
        self._hearing.stop()
        with anyio.move_on_after(FINISH_S):
            while self._hearing.busy:
                # Each speaker who ends closes her captions, which wakes us.
                await self._captions.changed.wait()
        self._captions.stop()

    # For people.

    def log_end(self) -> None:
        """Tell the log why the call was left and what came of it."""
        readers = {"captions_sent": self._captions.sent}
        readers["captions_undelivered"] = self._captions.undelivered
        losses = self._hearing.losses().status()
        _log.info(
            "left: %s", self.end_reason, extra={**self._log_fields, **readers, **losses}
        )

    def status(self) -> dict[str, Any]:
        """Return how the call is doing, in plain words; no names, no speech."""
        state, detail = self._presence.describe()
        if self.ending:
            state, detail = "leaving", self.end_reason
        elif self._encrypted and state == "in call":
            state, detail = "encrypted", ENCRYPTED
        return {
            "room_token": self.room_token,
            "state": state,
            "detail": detail,
            "lang_id": self.lang_id,
            "readers": {
                "receiving": len(self._readers.reached),
                "waiting": self._readers.waiting,
            },
            "speakers": self._hearing.status(),
            "captions_sent": self._captions.sent,
            "captions_undelivered": self._captions.undelivered,
            **self._hearing.losses().status(),
            "last_error": self.last_error,
        }
