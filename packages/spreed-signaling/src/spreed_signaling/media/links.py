# SPDX-License-Identifier: MIT
"""Peer connections driven by their negotiation: one task each.

Gathering candidates and building connections takes time; every stream does it
in its own task, so that none delays another or the signaling.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import anyio
import av
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from anyio.abc import TaskGroup

from .._tasks import Signal
from ..errors import MediaError
from ..protocol.negotiation import (
    AddCandidate,
    Answer,
    ClosePeer,
    MediaSignal,
    NegotiationAction,
    OpenPeer,
    PeerState,
    Publication,
    SendSignal,
    Subscription,
    SubscriptionOptions,
)
from ..types import IceServer
from .audio import FrameConverter
from .peer import PublisherPeer, SubscriberPeer
from .speaker import Speaker

__all__ = ["PublisherLink", "SubscriberLink"]

_log = logging.getLogger("spreed_signaling.media")

SendFunction = Callable[[MediaSignal], str]
"""Sends a signal to the stream's publisher and returns the request id."""


class SubscriberLink:
    """Keeps one speaker's audio coming while `run` runs.

    Args:
        speaker: Gets the audio.
        send: Carries signals to the server.
        ice_servers: For the peer connection.
        options: Times of the negotiation.
    """

    def __init__(
        self,
        speaker: Speaker,
        send: SendFunction,
        ice_servers: Sequence[IceServer],
        options: SubscriptionOptions,
    ) -> None:
        self._speaker = speaker
        self._send = send
        self._ice_servers = ice_servers
        self._core = Subscription(speaker.session_id, options)
        self._peer: SubscriberPeer | None = None
        self._actions: deque[NegotiationAction] = deque()
        self._wake = Signal()

    def receive(self, signal: MediaSignal) -> None:
        """A signal about this stream arrived."""
        self._actions += self._core.receive(signal, anyio.current_time())
        self._wake.set()

    def receive_error(self, request_id: str) -> bool:
        """An error arrived; returns whether it was about this stream."""
        if self._core.receive_error(request_id, anyio.current_time()):
            self._wake.set()
            return True
        return False

    async def run(self) -> None:
        """Subscribe until cancelled; leaves no connection behind."""
        try:
            async with anyio.create_task_group() as tasks:
                self._actions += self._core.start(anyio.current_time())
                while True:
                    while self._actions:
                        await self._carry_out(self._actions.popleft(), tasks)
                    self._speaker.report(
                        requests=self._core.requests, connected=self._core.connected
                    )
                    await self._wake.wait(self._core.deadline())
                    self._actions += self._core.tick(anyio.current_time())
        finally:
            await self._close_peer()

    async def _carry_out(self, action: NegotiationAction, tasks: TaskGroup) -> None:
        match action:
            case SendSignal(signal):
                self._core.sent(self._send(signal))
            case OpenPeer(sid, sdp):
                await self._close_peer()
                self._open_peer(sid, tasks)
                await self._answer(sid, sdp)
            case Answer(sid, sdp):
                await self._answer(sid, sdp)
            case AddCandidate(_, candidate) if self._peer is not None:
                await self._peer.add_candidate(candidate)
            case ClosePeer():
                await self._close_peer()

    def _open_peer(self, sid: str, tasks: TaskGroup) -> None:
        def on_state(state: PeerState) -> None:
            self._core.peer_changed(sid, state, anyio.current_time())
            self._wake.set()

        def on_track(track: MediaStreamTrack) -> None:
            tasks.start_soon(self._hear, track, sid)

        self._peer = SubscriberPeer(self._ice_servers, on_state, on_track)

    async def _answer(self, sid: str, sdp: str) -> None:
        if self._peer is None:
            return
        try:
            answer = await self._peer.answer(sdp)
        except MediaError as exc:
            _log.warning("subscribing failed: %s", exc)
            self._core.peer_changed(sid, PeerState.FAILED, anyio.current_time())
            return
        self._actions += self._core.answer_ready(sid, answer)

    async def _hear(self, track: MediaStreamTrack, sid: str) -> None:
        converter = FrameConverter()
        try:
            while True:
                frame = await track.recv()
                assert isinstance(frame, av.AudioFrame), "remote tracks are decoded"
                chunk = converter.convert(frame)
                self._core.media_arrived(anyio.current_time())
                if len(chunk.samples) or chunk.gap_samples:
                    self._speaker.put(chunk)
        except MediaStreamError:
            self._core.peer_changed(sid, PeerState.FAILED, anyio.current_time())
            self._wake.set()

    async def _close_peer(self) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            await peer.close()


class PublisherLink:
    """Keeps one track published while `run` runs.

    Args:
        track: The audio.
        send: Carries signals to the server, addressed to ourselves.
        ice_servers: For the peer connection.
        make_sid: Returns a new sid for each attempt.
    """

    def __init__(
        self,
        track: MediaStreamTrack,
        send: SendFunction,
        ice_servers: Sequence[IceServer],
        make_sid: Callable[[], str],
    ) -> None:
        self.connected = anyio.Event()
        """Set once media can flow."""
        self._track = track
        self._send = send
        self._ice_servers = ice_servers
        self._make_sid = make_sid
        self._core = Publication(make_sid())
        self._state = PeerState.CONNECTING
        self._actions: deque[NegotiationAction] = deque()
        self._restart = False
        self._wake = Signal()

    def receive(self, signal: MediaSignal) -> None:
        """A signal about our own stream arrived."""
        if signal.sid in (None, self._core.sid):
            self._actions += self._core.receive(signal)
            self._wake.set()

    def receive_error(self, request_id: str, reason: str) -> bool:
        """An error arrived; returns whether it was about our offer."""
        if self._core.receive_error(request_id, reason):
            self._wake.set()
            return True
        return False

    def session_started(self) -> None:
        """The server knows nothing of us any more: publish anew."""
        self._restart = True
        self._wake.set()

    async def run(self, delays: Callable[[], float]) -> None:
        """Publish until cancelled; leaves no connection behind.

        Args:
            delays: Returns the seconds to wait after a failure.
        """
        while True:
            reason = await self._publish_once()
            if not self._restart:
                _log.warning("publishing failed, trying again: %s", reason)
                await anyio.sleep(delays())
            self._restart = False
            self._core = Publication(self._make_sid())
            self._actions.clear()

    async def _publish_once(self) -> str:
        def on_state(state: PeerState) -> None:
            self._state = state
            if state is PeerState.CONNECTED:
                self.connected.set()
            self._wake.set()

        self._state = PeerState.CONNECTING
        peer = PublisherPeer(self._ice_servers, on_state, self._track)
        core = self._core
        try:
            offer = core.offer(await peer.offer(), anyio.current_time())
            core.sent(self._send(offer))
            while core.error is None and not self._restart:
                while self._actions:
                    await self._carry_out(self._actions.popleft(), peer)
                if self._state is PeerState.FAILED:
                    return "the connection failed"
                await self._wake.wait(core.deadline())
                core.tick(anyio.current_time())
            return core.error or "a new session began"
        except MediaError as exc:
            return str(exc)
        finally:
            await peer.close()

    async def _carry_out(self, action: NegotiationAction, peer: PublisherPeer) -> None:
        match action:
            case Answer(_, sdp):
                await peer.accept(sdp)
            case AddCandidate(_, candidate):
                await peer.add_candidate(candidate)
