# SPDX-License-Identifier: MIT
"""Peer connections as the negotiation needs them, on aiortc.

They know signaling only as texts that go in and come out.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
from aiortc import (
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamTrack
from aiortc.sdp import candidate_from_sdp
from anyio.abc import TaskStatus
from av.frame import Frame
from av.packet import Packet

from .._tasks import open_task_group
from ..errors import MediaError
from ..protocol.negotiation import PeerState
from ..types import IceServer
from .rtp.packet import AudioRtp
from .shortcut import Shortcut, open_shortcut
from .tap import audio_level_id, opus_payload_types, tap_packets, warn_of_stock_path

__all__ = ["Peer", "PublisherPeer", "SubscriberPeer"]

_log = logging.getLogger("spreed_signaling.media")

_GATHERING_TIMEOUT_S = 8.0
"""aioice waits up to 5 s for a STUN server that does not answer."""

_OPENING_S = 0.5
"""Enough to open a socket for each of our addresses."""

_CLOSE_TIMEOUT_S = 2.0
"""Usually milliseconds; leaving a call must not hang on a stuck transport."""

_STATES = {
    "connected": PeerState.CONNECTED,
    "failed": PeerState.FAILED,
    "closed": PeerState.FAILED,
}


class Peer:
    """What publishing and subscribing peers share.

    Args:
        ice_servers: STUN and TURN servers; empty means none. aiortc would ask a
            public STUN server if nothing were configured.
        on_state: Called with every new state, on the event loop.
    """

    def __init__(
        self, ice_servers: Sequence[IceServer], on_state: Callable[[PeerState], None]
    ) -> None:
        servers = [
            RTCIceServer(
                urls=list(server.urls),
                username=server.username,
                credential=server.credential,
            )
            for server in ice_servers
        ]
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._on_state = on_state
        self._pc.on("connectionstatechange", self._state_changed)

    def _state_changed(self) -> None:
        state = _STATES.get(self._pc.connectionState, PeerState.CONNECTING)
        self._on_state(state)

    async def add_candidate(self, candidate: dict[str, Any]) -> None:
        """Add a remote candidate; unusable ones are ignored, as browsers do."""
        text = candidate.get("candidate")
        if not isinstance(text, str) or not text:
            # An empty candidate marks the end.
            return
        try:
            parsed = candidate_from_sdp(text.removeprefix("candidate:"))
            mid, index = candidate.get("sdpMid"), candidate.get("sdpMLineIndex")
            # Janus leaves sdpMid empty at times; the index counts then.
            parsed.sdpMid = mid if isinstance(mid, str) and mid else None
            parsed.sdpMLineIndex = index if isinstance(index, int) else 0
            await self._pc.addIceCandidate(parsed)
        except Exception as exc:
            # aiortc raises whatever its parser meets, and fails on closed peers.
            _log.debug("ignoring a candidate: %s: %s", type(exc).__name__, exc)

    async def close(self) -> None:
        """Close the connection; never raises, bounded also when cancelled."""
        self._pc.remove_all_listeners()
        try:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_CLOSE_TIMEOUT_S):
                await self._pc.close()
        except Exception:
            # What is left of it is aiortc's; the stream must be able to go on.
            _log.exception("closing a peer connection failed")


class SubscriberPeer(Peer):
    """Receives the audio of one publisher.

    Args:
        ice_servers: See `Peer`.
        on_state: See `Peer`.
        on_track: Called with the remote audio track, before media flows.
    """

    def __init__(
        self,
        ice_servers: Sequence[IceServer],
        on_state: Callable[[PeerState], None],
        on_track: Callable[[MediaStreamTrack], None],
    ) -> None:
        super().__init__(ice_servers, on_state)
        self._on_track = on_track
        self._has_track = False
        self._shortcut: Shortcut | None = None
        self._level_id: int | None = None
        self.opus_payload_types: frozenset[int] = frozenset()
        """Of the latest offer."""
        self._pc.on("track", self._track_added)

    def _track_added(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio" and not self._has_track:
            self._has_track = True
            self._on_track(track)

    def tap(
        self,
        track: MediaStreamTrack,
        handler: Callable[[AudioRtp], None],
        on_refused: Callable[[], None] = lambda: None,
    ) -> bool:
        """Hand the packets of a track to `handler`; see `tap_packets`.

        Args:
            track: From `on_track`.
            handler: Must not raise.
            on_refused: Called for datagrams dropped as forged or malformed.

        Returns:
            Whether that is possible; if not, the track yields decoded frames.
        """
        if not self.opus_payload_types:
            # Another codec: aiortc decodes it.
            return False
        receiver = next(one for one in self._pc.getReceivers() if one.track is track)
        shortcut: Shortcut | None = None

        def take(packet: AudioRtp) -> None:
            if shortcut is not None:
                shortcut.learn(packet.ssrc)
            handler(packet)

        reason = tap_packets(receiver, take)
        if reason is not None:
            warn_of_stock_path(reason)
            return False
        shortcut = self._shortcut = open_shortcut(receiver, handler, on_refused)
        self._configure()
        return True

    def _configure(self) -> None:
        if self._shortcut is not None:
            self._shortcut.configure(self.opus_payload_types, self._level_id)

    async def answer(self, sdp: str) -> str:
        """Take an offer and return the answer, all candidates included.

        Raises:
            MediaError: If the offer cannot be used.
        """
        try:
            await _with_time_limit(lambda: self._answer(sdp))
        except MediaError:
            raise
        except Exception as exc:
            # aiortc raises whatever its parser meets; a hostile offer must not
            # reach further than this stream.
            raise MediaError(f"unusable offer: {type(exc).__name__}: {exc}") from exc
        return self._pc.localDescription.sdp

    async def _answer(self, sdp: str) -> None:
        self.opus_payload_types = opus_payload_types(sdp)
        self._level_id = audio_level_id(sdp)
        self._configure()
        offer = RTCSessionDescription(sdp=sdp, type="offer")
        await self._pc.setRemoteDescription(offer)
        if not self._pc.getTransceivers():
            raise MediaError("the offer has no audio and no video")
        self._decline_all_but_one_audio()
        await self._pc.setLocalDescription(await self._pc.createAnswer())

    def _decline_all_but_one_audio(self) -> None:
        """Answer everything else `inactive`.

        For video this is what really stops it: other ways were ignored (measured
        with HPB 2.0.2, Janus 1.1.2). What nobody reads would pile up in aiortc.
        """
        kinds_wanted = ["audio"]
        for transceiver in self._pc.getTransceivers():
            if transceiver.kind in kinds_wanted:
                kinds_wanted.remove(transceiver.kind)
            else:
                transceiver.direction = "inactive"


class _BorrowedTrack(MediaStreamTrack):
    """Another track, which outlives the peer connection: aiortc stops what it sent."""

    def __init__(self, track: MediaStreamTrack) -> None:
        super().__init__()
        self.kind = track.kind
        self._track = track

    async def recv(self) -> Frame | Packet[Any]:
        return await self._track.recv()


class PublisherPeer(Peer):
    """Sends one audio track."""

    def __init__(
        self,
        ice_servers: Sequence[IceServer],
        on_state: Callable[[PeerState], None],
        track: MediaStreamTrack,
    ) -> None:
        super().__init__(ice_servers, on_state)
        self._pc.addTrack(_BorrowedTrack(track))

    async def offer(self) -> str:
        """Return the offer, all candidates included.

        Raises:
            MediaError: If gathering candidates took too long.
        """
        await _with_time_limit(self._offer)
        return self._pc.localDescription.sdp

    async def _offer(self) -> None:
        await self._pc.setLocalDescription(await self._pc.createOffer())

    async def accept(self, sdp: str) -> None:
        """Take the server's answer.

        Raises:
            MediaError: If it cannot be used.
        """
        try:
            answer = RTCSessionDescription(sdp=sdp, type="answer")
            await self._pc.setRemoteDescription(answer)
        except Exception as exc:
            # As in `SubscriberPeer.answer`.
            raise MediaError(f"unusable answer: {type(exc).__name__}: {exc}") from exc


async def _with_time_limit(gather: Callable[[], Awaitable[None]]) -> None:
    """Gather candidates in bounded time, and in much less when cancelled.

    aioice loses its sockets when it is cancelled while it opens them, which takes
    milliseconds; only what comes then, asking STUN servers, is interrupted.

    Raises:
        MediaError: If it took too long.
    """
    async with open_task_group() as tasks:
        limit_at = anyio.current_time() + _GATHERING_TIMEOUT_S
        scope = anyio.CancelScope(shield=True, deadline=limit_at)

        async def hurry(*, task_status: TaskStatus[None]) -> None:
            try:
                task_status.started()
                await anyio.sleep_forever()
            finally:
                scope.deadline = min(limit_at, anyio.current_time() + _OPENING_S)

        await tasks.start(hurry)
        with scope:
            await gather()
        tasks.cancel_scope.cancel()
    # When we were hurried, the caller gets the cancellation, not an error.
    await anyio.lowlevel.checkpoint_if_cancelled()
    if scope.cancelled_caught:
        raise MediaError("gathering network candidates took too long")
