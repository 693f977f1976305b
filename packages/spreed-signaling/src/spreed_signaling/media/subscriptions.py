# SPDX-License-Identifier: MIT
"""A call: whom to hear, and what to say. Signaling and media meet here.

`Call` folds the room's events into a set of speakers, each with a stream of its
own. Trouble with one stream stays there.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

import anyio
from aiortc.mediastreams import MediaStreamTrack
from anyio.abc import TaskGroup
from attrs import field, frozen
from attrs.validators import ge, le

from .._tasks import open_task_group
from ..client import Room
from ..errors import EventsLagged, MediaError
from ..protocol.events import (
    DataReceived,
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
    RequestErrored,
    RoomJoined,
    RoomLeft,
    SessionEvent,
    SessionResumed,
    SessionStarted,
)
from ..protocol.negotiation import MediaSignal, SubscriptionOptions
from ..types import IceServer, Participant
from .links import PublisherLink, SubscriberLink
from .rtp.reorder import LONGEST_WAIT_S
from .speaker import Speaker

__all__ = ["Call", "CallOptions", "Publication"]


@frozen(kw_only=True)
class CallOptions:
    """Settings of a call."""

    subscription: SubscriptionOptions = field(factory=SubscriptionOptions)
    speaker_limit: int = 1024
    """Speakers that may wait to be taken from `Call.speakers`; beyond it the call
    fails with `EventsLagged`."""
    reorder_wait_s: float = field(default=0.040, validator=[ge(0), le(LONGEST_WAIT_S)])
    """How long to wait for a missing packet at most, seconds, up to 0.060. Others
    are never delayed; where nothing is reordered the wait is shorter by itself."""


class Publication:
    """A published track; made by `Call.publish`."""

    def __init__(self, track: MediaStreamTrack, link: PublisherLink) -> None:
        self.track = track
        self._link = link
        self._scope = anyio.CancelScope()

    @property
    def connected(self) -> bool:
        """Whether media could flow at least once."""
        return self._link.connected.is_set()

    async def wait_connected(self, timeout_s: float = 15.0) -> None:
        """Wait until the server takes our audio.

        Raises:
            MediaError: If that did not happen in time.
        """
        with anyio.move_on_after(timeout_s):
            await self._link.connected.wait()
            return
        raise MediaError(f"publishing did not succeed within {timeout_s:g} s")

    def stop(self) -> None:
        """Stop publishing, and the track with it."""
        self._scope.cancel()
        # Not only in the task: it may not have begun.
        self.track.stop()


class Call:
    """The media of a room we have joined.

    Use it as an asynchronous context manager. Trouble with one speaker's stream
    is logged, shows in `Speaker.stats` and is tried again; it never ends the call.

    ```python
    async with Call(room) as call:
        async for speaker in call.speakers():
            tasks.start_soon(listen, speaker)
    ```

    Args:
        room: From `Client.join`; joined or about to be.
        ice_servers: STUN and TURN servers. None are needed where the server's
            SFU can be reached directly, which is usual for bots.
        options: Times and limits.
    """

    def __init__(
        self,
        room: Room,
        *,
        ice_servers: Sequence[IceServer] = (),
        options: CallOptions | None = None,
    ) -> None:
        self._room = room
        self._ice_servers = tuple(ice_servers)
        self._options = CallOptions() if options is None else options
        self._speakers: dict[str, Speaker] = {}
        self._links: dict[str, SubscriberLink] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._publications: list[PublisherLink] = []
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        self._found_in, self._found_out = anyio.create_memory_object_stream[Speaker](
            self._options.speaker_limit
        )
        self._events = self._room.subscribe()
        self._group = open_task_group()
        self._tasks = await self._group.__aenter__()
        # Without a pause in between, so that no event is missed or seen twice.
        present = list(self._room.participants.values())
        self._tasks.start_soon(self._follow, present)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._tasks.cancel_scope.cancel()
        try:
            return await self._group.__aexit__(exc_type, exc, traceback)
        finally:
            self._events.close()
            self._found_in.close()
            self._found_out.close()
            self._lose_all()

    async def speakers(self) -> AsyncIterator[Speaker]:
        """Yield every participant with audio, once per appearance.

        Those who are there already come first. One consumer at a time; a
        cancelled one loses nobody. Ends when we are out of the room for good:
        put out, or the session is over (`Client.status` says why).
        """
        async for speaker in self._found_out:
            yield speaker

    async def publish(self, track: MediaStreamTrack) -> Publication:
        """Publish audio until the call is left or the publication is stopped.

        Returns at once; see `Publication.wait_connected`. It begins once we are in
        the room, and again after a lost session.

        Args:
            track: An `AudioFile`, or any aiortc audio track. It is stopped when
                the publication ends.
        """
        client = self._room.client

        def send(signal: MediaSignal) -> str:
            own = client.session_id
            assert own is not None, "in a room without a session"
            return client.send(signal.to_message(own))

        link = PublisherLink(
            track,
            send,
            self._ice_servers,
            make_sid=lambda: secrets.token_hex(8),
            is_ready=lambda: self._room.joined,
        )
        publication = Publication(track, link)

        async def run() -> None:
            self._publications.append(link)
            try:
                with publication._scope:
                    await link.run()
            finally:
                self._publications.remove(link)
                track.stop()

        self._tasks.start_soon(run)
        return publication

    # Following the room.

    async def _follow(self, present: list[Participant]) -> None:
        with self._found_in:
            for participant in present:
                self._fold_participant(participant)
            async for event in self._events:
                if isinstance(event, RoomLeft):
                    break
                self._fold(event)
        self._events.close()
        self._lose_all()

    def _fold(self, event: SessionEvent) -> None:
        match event:
            case (
                ParticipantJoined(participant=one) | ParticipantChanged(participant=one)
            ):
                self._fold_participant(one)
            case ParticipantLeft(participant=one):
                self._lose(one.session_id)
            case DataReceived():
                self._route(event)
            case RequestErrored(request_id=request_id, error=error):
                for link in list(self._links.values()):
                    if link.receive_error(request_id):
                        return
                for publication in self._publications:
                    if publication.receive_error(request_id, str(error)):
                        return
            case SessionStarted():
                for publication in self._publications:
                    publication.session_started()
            case RoomJoined() | SessionResumed():
                for publication in self._publications:
                    publication.in_room()

    def _fold_participant(self, participant: Participant) -> None:
        known = self._speakers.get(participant.session_id)
        if not participant.has_audio:
            self._lose(participant.session_id)
        elif known is not None:
            known.participant = participant
        else:
            speaker = Speaker(
                participant,
                self._listen,
                self._stop_listening,
                reorder_wait_s=self._options.reorder_wait_s,
            )
            self._speakers[participant.session_id] = speaker
            try:
                self._found_in.send_nowait(speaker)
            except anyio.WouldBlock:
                raise EventsLagged(self._options.speaker_limit) from None

    def _route(self, event: DataReceived) -> None:
        # The server puts the publisher in as the sender of its media signals. What
        # the data say about their origin could be a participant's invention.
        sender = event.sender_session_id
        signal = MediaSignal.from_data(event.data, sender)
        if signal is None or sender is None:
            return
        if sender == self._room.client.session_id:
            for publication in self._publications:
                publication.receive(signal)
        elif sender in self._links:
            self._links[sender].receive(signal)

    def _listen(self, speaker: Speaker) -> None:
        if self._speakers.get(speaker.session_id) is not speaker:
            return

        def send(signal: MediaSignal) -> str:
            return self._room.client.send(signal.to_message(speaker.session_id))

        link = SubscriberLink(
            speaker, send, self._ice_servers, self._options.subscription
        )
        scope = anyio.CancelScope()
        self._links[speaker.session_id] = link
        self._scopes[speaker.session_id] = scope

        async def run() -> None:
            with scope:
                await link.run()

        self._tasks.start_soon(run)

    def _stop_listening(self, speaker: Speaker) -> None:
        if self._speakers.get(speaker.session_id) in (speaker, None):
            self._links.pop(speaker.session_id, None)
            scope = self._scopes.pop(speaker.session_id, None)
            if scope is not None:
                scope.cancel()

    def _lose(self, session_id: str) -> None:
        speaker = self._speakers.pop(session_id, None)
        if speaker is not None:
            self._stop_listening(speaker)
            speaker._end()

    def _lose_all(self) -> None:
        for session_id in list(self._speakers):
            self._lose(session_id)
