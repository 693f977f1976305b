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

from .._tasks import open_task_group
from ..client import Room
from ..errors import EventsLagged, MediaError, UsageError
from ..protocol.backoff import retry_delays
from ..protocol.events import (
    DataReceived,
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
    RequestErrored,
    SessionEvent,
    SessionStarted,
)
from ..protocol.negotiation import MediaSignal, SubscriptionOptions
from ..types import IceServer, Participant
from .links import PublisherLink, SubscriberLink
from .speaker import Speaker

__all__ = ["Call", "CallOptions", "Publication"]


@frozen(kw_only=True)
class CallOptions:
    """Settings of a call."""

    subscription: SubscriptionOptions = field(factory=SubscriptionOptions)
    speaker_limit: int = 1024
    """Speakers that may wait to be taken from `Call.speakers`; beyond it the call
    fails with `EventsLagged`."""


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
        """Stop publishing."""
        self._scope.cancel()
        self.track.stop()


class Call:
    """The media of a room we have joined.

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
        limit = self._options.speaker_limit
        self._found_in, self._found_out = anyio.create_memory_object_stream[Speaker](
            limit
        )

    async def __aenter__(self) -> Self:
        self._events = self._room.subscribe()
        self._group = open_task_group()
        self._tasks = await self._group.__aenter__()
        for participant in self._room.participants.values():
            self._fold_participant(participant)
        self._tasks.start_soon(self._follow)
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
            for speaker in self._speakers.values():
                speaker.end()

    async def speakers(self) -> AsyncIterator[Speaker]:
        """Yield every participant with audio, once per appearance.

        Those who are there already come first. One consumer; ends with the
        session. Cancellation-safe.
        """
        async for speaker in self._found_out:
            yield speaker

    async def publish(self, track: MediaStreamTrack) -> Publication:
        """Publish audio until the call is left or the publication is stopped.

        Returns at once; see `Publication.wait_connected`. After a lost session
        the track is published again.

        Args:
            track: An `AudioFile`, or any aiortc audio track.
        """

        def send(signal: MediaSignal) -> str:
            own = self._room.client.session_id
            if own is None:
                raise UsageError("publish after the session is open")
            return self._room.client.send(signal.to_message(own))

        link = PublisherLink(track, send, self._ice_servers, lambda: _new_sid())
        publication = Publication(track, link)

        async def run() -> None:
            delays = retry_delays()
            self._publications.append(link)
            try:
                with publication._scope:
                    await link.run(lambda: next(delays))
            finally:
                self._publications.remove(link)

        self._tasks.start_soon(run)
        return publication

    # Following the room.

    async def _follow(self) -> None:
        with self._found_in:
            async for event in self._events:
                self._fold(event)
        for speaker in list(self._speakers.values()):
            self._lose(speaker.session_id)

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

    def _fold_participant(self, participant: Participant) -> None:
        known = self._speakers.get(participant.session_id)
        if not participant.has_audio:
            self._lose(participant.session_id)
        elif known is not None:
            known.participant = participant
        else:
            speaker = Speaker(participant, self._listen, self._stop_listening)
            self._speakers[participant.session_id] = speaker
            try:
                self._found_in.send_nowait(speaker)
            except anyio.WouldBlock:
                raise EventsLagged(self._options.speaker_limit) from None

    def _route(self, event: DataReceived) -> None:
        signal = MediaSignal.from_data(event.data, event.sender_session_id)
        if signal is None or signal.sender is None:
            return
        if signal.sender == self._room.client.session_id:
            for publication in self._publications:
                publication.receive(signal)
            return
        link = self._links.get(signal.sender)
        if link is not None:
            link.receive(signal)

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
            speaker.end()


def _new_sid() -> str:
    return secrets.token_hex(8)
