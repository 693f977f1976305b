# SPDX-License-Identifier: MIT
"""One track of ours, published for as long as it is wanted."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence

import anyio
from aiortc.mediastreams import MediaStreamTrack

from ..._tasks import Signal
from ...errors import SignalingError
from ...protocol.backoff import retry_delays
from ...protocol.negotiation import (
    AddCandidate,
    Answer,
    MediaSignal,
    NegotiationAction,
    PeerState,
    Publication,
)
from ...types import IceServer
from ..peer import PublisherPeer
from ._send import SendFunction

__all__ = ["PublisherLink"]

_log = logging.getLogger("spreed_signaling.media")

_CONNECT_TIMEOUT_S = 10.0
"""From our offer to a connected peer; a lost first check costs about 1 s."""


class PublisherLink:
    """Keeps one track published while `run` runs.

    Args:
        track: The audio.
        send: Carries signals to the server, addressed to ourselves.
        ice_servers: For the peer connection.
        make_sid: Returns a new sid for each attempt.
        is_ready: Whether we are in the room: the server refuses offers before.
    """

    def __init__(
        self,
        track: MediaStreamTrack,
        send: SendFunction,
        ice_servers: Sequence[IceServer],
        *,
        make_sid: Callable[[], str],
        is_ready: Callable[[], bool],
    ) -> None:
        self.connected = anyio.Event()
        """Set once media could flow."""
        self._track = track
        self._send = send
        self._ice_servers = ice_servers
        self._make_sid = make_sid
        self._is_ready = is_ready
        self._core = Publication(make_sid())
        self._state = PeerState.CONNECTING
        self._actions: deque[NegotiationAction] = deque()
        self._restart = self._was_connected = False
        self._wake = Signal()

    def receive(self, signal: MediaSignal) -> None:
        """A signal about our own stream arrived."""
        self._actions += self._core.receive(signal)
        self._wake.set()

    def receive_error(self, request_id: str, reason: str) -> bool:
        """An error arrived; returns whether it was about our offer."""
        if self._core.receive_error(request_id, reason):
            self._wake.set()
            return True
        return False

    def session_started(self) -> None:
        """The server knows nothing of us any more: publish anew, once in the room."""
        self._restart = True
        self._wake.set()

    def in_room(self) -> None:
        """We are in the room, or in it again."""
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled; leaves no connection behind."""
        delays = retry_delays()
        while True:
            while not self._is_ready():
                await self._wake.wait()
            self._restart = False
            self._was_connected = False
            self._state = PeerState.CONNECTING
            self._core = Publication(self._make_sid())
            self._actions.clear()
            try:
                reason = await self._publish_once()
            except SignalingError as exc:
                reason = str(exc)
            except Exception:
                # As in `SubscriberLink.run`.
                _log.exception("publishing failed; it begins anew")
                reason = "an unexpected error"
            if self._restart:
                continue
            if self._was_connected:
                delays = retry_delays()
            _log.warning("publishing failed, trying again: %s", reason)
            await self._pause(next(delays))

    async def _pause(self, delay: float) -> None:
        until = anyio.current_time() + delay
        while not self._restart and anyio.current_time() < until:
            await self._wake.wait(until)

    async def _publish_once(self) -> str:
        """Publish until something breaks; returns what."""

        def on_state(state: PeerState) -> None:
            self._state = state
            if state is PeerState.CONNECTED:
                self._was_connected = True
                self.connected.set()
            self._wake.set()

        peer = PublisherPeer(self._ice_servers, on_state, self._track)
        core = self._core
        try:
            offer = core.offer(await peer.offer(), anyio.current_time())
            core.sent(self._send(offer))
            give_up_at = anyio.current_time() + _CONNECT_TIMEOUT_S
            while core.error is None and not self._restart:
                while self._actions:
                    await self._carry_out(self._actions.popleft(), peer)
                if self._state is PeerState.FAILED:
                    return "the connection failed"
                if self._was_connected:
                    give_up_at = math.inf
                if anyio.current_time() >= give_up_at:
                    return f"no connection within {_CONNECT_TIMEOUT_S:g} s"
                await self._wake.wait(min(core.deadline() or math.inf, give_up_at))
                core.tick(anyio.current_time())
            return core.error or "a new session began"
        finally:
            await peer.close()

    async def _carry_out(self, action: NegotiationAction, peer: PublisherPeer) -> None:
        match action:
            case Answer(_, sdp):
                await peer.accept(sdp)
            case AddCandidate(_, candidate):
                await peer.add_candidate(candidate)
