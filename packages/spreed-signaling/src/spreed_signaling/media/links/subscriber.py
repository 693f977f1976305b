# SPDX-License-Identifier: MIT
"""One speaker's stream, received for as long as it is wanted."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

import anyio
import av
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from anyio.abc import TaskGroup

from ..._tasks import Signal, open_task_group
from ...errors import MediaError
from ...protocol.backoff import retry_delays
from ...protocol.negotiation import (
    AddCandidate,
    Answer,
    ClosePeer,
    MediaSignal,
    NegotiationAction,
    OpenPeer,
    PeerState,
    SendSignal,
    Subscription,
    SubscriptionOptions,
)
from ...types import IceServer
from ..inlet import Inlet
from ..peer import SubscriberPeer
from ..speaker import Speaker
from ..tap import warn_of_stock_path
from ._send import SendFunction

__all__ = ["SubscriberLink"]

_log = logging.getLogger("spreed_signaling.media")


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
        self._hearing = anyio.CancelScope()
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
        delays = retry_delays()
        while True:
            try:
                await self._run_once()
            except Exception:
                # What the other side sends goes through parsers and decoders that
                # are not ours; it must never reach another speaker's stream.
                _log.exception("a subscription failed; it begins anew")
            self._core.stop()
            self._actions.clear()
            await anyio.sleep(next(delays))

    async def _run_once(self) -> None:
        try:
            async with open_task_group() as tasks:
                self._actions += self._core.start(anyio.current_time())
                while True:
                    while self._actions:
                        await self._carry_out(self._actions.popleft(), tasks)
                    self._speaker._report(
                        requests=self._core.requests, connected=self._core.connected
                    )
                    await self._wake.wait(self._core.deadline())
                    self._actions += self._core.tick(anyio.current_time())
        finally:
            self._speaker._report(requests=self._core.requests, connected=False)
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
            assert self._peer is not None, "tracks come from the peer opened below"
            inlet = Inlet(self._speaker._receiver, self._core.media_arrived)
            # Right now, before any packet can come.
            tapped = self._peer.tap(track, inlet.take, inlet.refuse)
            # A track of a peer that never connects never ends by itself.
            self._hearing = anyio.CancelScope()
            tasks.start_soon(self._hear, track, sid, self._hearing, inlet, tapped)

        self._peer = SubscriberPeer(self._ice_servers, on_state, on_track)

    async def _answer(self, sid: str, sdp: str) -> None:
        if self._peer is None:
            return
        try:
            answer = await self._peer.answer(sdp)
            self._speaker._receiver.payload_types = self._peer.opus_payload_types
        except MediaError as exc:
            _log.warning("subscribing failed: %s", exc)
            self._core.peer_changed(sid, PeerState.FAILED, anyio.current_time())
            return
        self._actions += self._core.answer_ready(sid, answer)

    async def _hear(
        self,
        track: MediaStreamTrack,
        sid: str,
        scope: anyio.CancelScope,
        inlet: Inlet,
        tapped: bool,
    ) -> None:
        """Take decoded frames, or only notice the end of the track if it is tapped."""
        converter = self._speaker._converter
        converter.restart()
        try:
            with scope:
                while True:
                    frame = await track.recv()
                    assert isinstance(frame, av.AudioFrame), "remote tracks are decoded"
                    if tapped:
                        warn_of_stock_path("they are decoded nevertheless")
                        tapped = False
                    inlet.add(converter.convert(frame, anyio.current_time()))
        except MediaStreamError:
            self._core.peer_changed(sid, PeerState.FAILED, anyio.current_time())
            self._wake.set()
        finally:
            inlet.close()

    async def _close_peer(self) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            self._hearing.cancel()
            await peer.close()
