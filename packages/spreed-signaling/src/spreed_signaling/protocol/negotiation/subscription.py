# SPDX-License-Identifier: MIT
"""Receiving one publisher's stream: ask, answer, and ask again."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from ..backoff import retry_delays
from .signals import (
    KEPT_CANDIDATES,
    AddCandidate,
    Answer,
    ClosePeer,
    MediaSignal,
    NegotiationAction,
    OpenPeer,
    PeerState,
    SendSignal,
)

__all__ = ["Subscription", "SubscriptionOptions"]

_KEPT_REQUESTS = 32
"""Requests whose errors are still recognised; the server takes up to 10 s."""


@frozen(kw_only=True)
class SubscriptionOptions:
    """Times of a subscription, all in seconds."""

    offer_timeout_s: float = 12.0
    """The server answers or fails within 10 s."""
    connect_timeout_s: float = 10.0
    """From the offer to a connected peer; a lost first check costs about 1 s."""
    stall_s: float = 10.0
    """No packet for this long: the publisher may have started anew unannounced."""
    longest_stall_s: float = 30.0
    """Asking anew without packets slows down to this. Some muted speakers send none,
    and each question costs both sides a new connection; a publisher who is back
    unannounced is not heard for so long."""
    longest_delay_s: float = 30.0
    """Longest pause between requests that fail."""


class _Stage(enum.Enum):
    IDLE = enum.auto()
    REQUESTED = enum.auto()
    OFFERED = enum.auto()
    CONNECTED = enum.auto()
    PAUSED = enum.auto()
    """Failed: the peer connection is given up, the next request is planned."""


class Subscription:
    """Receives one publisher's stream, and keeps asking while it is wanted.

    Args:
        publisher: The publisher's session id.
        options: Times.
    """

    def __init__(
        self, publisher: str, options: SubscriptionOptions | None = None
    ) -> None:
        self.publisher = publisher
        self.requests = 0
        """How many offers were requested."""
        self._options = SubscriptionOptions() if options is None else options
        self._stage = _Stage.IDLE
        self._sid: str | None = None
        self._deadline: float | None = None
        self._attempt = 0
        self._requests: dict[str, int] = {}
        self._early: deque[tuple[str | None, dict[str, Any]]] = deque(
            maxlen=KEPT_CANDIDATES
        )
        self._delays: Iterator[float] = self._new_delays()
        self._patience_s = self._options.stall_s
        self._settled = False

    @property
    def sid(self) -> str | None:
        """The sid of the peer connection in use."""
        return self._sid

    @property
    def connected(self) -> bool:
        """Whether media can flow."""
        return self._stage is _Stage.CONNECTED

    def _new_delays(self) -> Iterator[float]:
        return retry_delays(1.0, self._options.longest_delay_s)

    # Act.

    def start(self, now: float) -> list[NegotiationAction]:
        """Ask for an offer, giving up whatever there was."""
        actions = self._drop_peer()
        self._begin(_Stage.REQUESTED)
        self._deadline = now + self._options.offer_timeout_s
        self.requests += 1
        return [*actions, SendSignal(MediaSignal(kind="requestoffer"))]

    def stop(self) -> list[NegotiationAction]:
        """The stream is no longer wanted, or the session is gone."""
        actions = self._drop_peer()
        self._begin(_Stage.IDLE)
        self._deadline = None
        self._delays = self._new_delays()
        self._patience_s = self._options.stall_s
        return actions

    def sent(self, request_id: str) -> None:
        """A signal went out with this id: errors with it are ours."""
        self._requests[request_id] = self._attempt
        if len(self._requests) > _KEPT_REQUESTS:
            del self._requests[next(iter(self._requests))]

    def answer_ready(self, sid: str, sdp: str) -> list[NegotiationAction]:
        """The peer connection of `sid` made its answer."""
        if sid != self._sid or self._stage is _Stage.PAUSED:
            # Replaced meanwhile: an answer with an old sid only causes errors.
            return []
        return [SendSignal(MediaSignal(kind="answer", sid=sid, sdp=sdp))]

    # Receive.

    def receive(self, signal: MediaSignal, now: float) -> list[NegotiationAction]:
        """A signal from this publisher's stream arrived."""
        if self._stage is _Stage.IDLE or signal.room_type != "video":
            return []
        if signal.kind == "offer" and signal.sdp is not None and signal.sid:
            return self._receive_offer(signal.sid, signal.sdp, now)
        if signal.kind == "candidate" and signal.candidate is not None:
            if self._sid is not None and signal.sid in (None, self._sid):
                return [AddCandidate(self._sid, signal.candidate)]
            self._early.append((signal.sid, signal.candidate))
        return []

    def _receive_offer(self, sid: str, sdp: str, now: float) -> list[NegotiationAction]:
        if sid == self._sid and self._stage is not _Stage.PAUSED:
            return [Answer(sid, sdp)]
        early = list(self._early)
        actions = self._drop_peer()
        self._sid = sid
        self._begin(_Stage.OFFERED)
        self._deadline = now + self._options.connect_timeout_s
        actions.append(OpenPeer(sid, sdp))
        actions += [
            AddCandidate(sid, candidate)
            for early_sid, candidate in early
            if early_sid in (None, sid)
        ]
        return actions

    def receive_error(self, request_id: str, now: float) -> bool:
        """An error answer arrived; returns whether it was about this exchange."""
        attempt = self._requests.pop(request_id, None)
        if attempt is None:
            return False
        # News about an earlier attempt is too late, and where media can flow the
        # packets tell the truth.
        if attempt == self._attempt and self._stage is not _Stage.CONNECTED:
            self._plan_retry(now)
        return True

    def peer_changed(self, sid: str, state: PeerState, now: float) -> None:
        """The peer connection of `sid` changed its state."""
        if sid != self._sid or self._stage is _Stage.PAUSED:
            return
        if state is PeerState.CONNECTED:
            self._stage = _Stage.CONNECTED
            self._deadline = now + self._patience_s
        elif state is PeerState.FAILED:
            self._plan_retry(now)

    def media_arrived(self, now: float) -> None:
        """Packets flow: all is well. Call it for every chunk."""
        if self._stage is not _Stage.CONNECTED:
            return
        if self._patience_s > self._options.stall_s or not self._settled:
            self._patience_s = self._options.stall_s
            self._delays = self._new_delays()
            self._settled = True
        self._deadline = now + self._patience_s

    # Time.

    def deadline(self) -> float | None:
        """Return when `tick` must be called next; None if never."""
        return self._deadline

    def tick(self, now: float) -> list[NegotiationAction]:
        """No offer, no connection, or no packets in time: ask anew."""
        if self._deadline is None or now < self._deadline:
            return []
        if self._stage is _Stage.CONNECTED:
            doubled = 2 * self._patience_s
            self._patience_s = min(self._options.longest_stall_s, doubled)
        return self.start(now)

    def _plan_retry(self, now: float) -> None:
        self._begin(_Stage.PAUSED)
        self._settled = False
        self._deadline = now + next(self._delays)

    def _begin(self, stage: _Stage) -> None:
        """Enter a stage that makes errors of earlier requests meaningless."""
        self._stage = stage
        self._attempt += 1

    def _drop_peer(self) -> list[NegotiationAction]:
        sid, self._sid = self._sid, None
        self._early.clear()
        return [] if sid is None else [ClosePeer(sid)]
