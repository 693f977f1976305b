# SPDX-License-Identifier: MIT
"""One media exchange with the SFU: as a subscriber, or as the publisher.

Sans-I/O: the owner reports offers, errors and the state of its peer connection
with `now`, and carries out the returned actions. Rules ("Request offer from
publisher", "Lifetime of streams"; measured with HPB 2.0.2 and Janus 1.1.2):

- The server never repeats anything by itself. A `requestoffer` is a long poll
  of up to 10 s and is asked again for as long as the stream is wanted.
- The `sid` names one Janus handle. Same sid: renegotiate the peer connection.
  Other sid: the old one is dead, build a new one. Answers carry the sid.
- Candidates may come before their offer: they are kept by sid.
- A publisher that stops sending is not announced; only missing packets tell.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from typing import Any

from attrs import field, frozen

from .backoff import retry_delays
from .messages import DataMessage, Party

__all__ = [
    "AddCandidate",
    "Answer",
    "ClosePeer",
    "MediaSignal",
    "NegotiationAction",
    "OpenPeer",
    "PeerState",
    "Publication",
    "SendSignal",
    "Subscription",
    "SubscriptionOptions",
]


class PeerState(enum.Enum):
    """State of a peer connection, as far as it matters here."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    FAILED = "failed"
    """Failed or closed: it will not come back."""


@frozen(kw_only=True)
class MediaSignal:
    """The `data` of a message that belongs to media signaling."""

    kind: str
    """`offer`, `answer`, `candidate`, `requestoffer` or `endOfCandidates`."""
    room_type: str = "video"
    """`video` for camera and microphone, `screen` for a shared screen."""
    sid: str | None = None
    sdp: str | None = field(default=None, repr=False)
    candidate: dict[str, Any] | None = field(default=None, repr=False)
    sender: str | None = None
    """Session id of the publisher the signal is about."""

    @classmethod
    def from_data(cls, data: Any, sender: str | None) -> MediaSignal | None:
        """Read message data; None if it is not media signaling."""
        kinds = ("offer", "answer", "candidate", "endOfCandidates")
        if not isinstance(data, dict) or data.get("type") not in kinds:
            return None
        payload = data.get("payload")
        body = payload if isinstance(payload, dict) else {}
        sdp, candidate = body.get("sdp"), body.get("candidate")
        sid, room_type = data.get("sid"), data.get("roomType")
        origin = data.get("from")
        return cls(
            kind=data["type"],
            room_type=room_type if isinstance(room_type, str) else "video",
            sid=sid if isinstance(sid, str) else None,
            sdp=sdp if isinstance(sdp, str) else None,
            candidate=candidate if isinstance(candidate, dict) else None,
            sender=origin if isinstance(origin, str) else sender,
        )

    def to_message(self, recipient: str) -> DataMessage:
        """Return the message that carries this signal to the server."""
        data: dict[str, Any] = {"type": self.kind, "roomType": self.room_type}
        if self.kind != "requestoffer":
            data["to"] = recipient
        if self.sid is not None:
            data["sid"] = self.sid
        if self.sdp is not None:
            data["payload"] = {"type": self.kind, "sdp": self.sdp}
        if self.candidate is not None:
            data["payload"] = {"candidate": self.candidate}
        return DataMessage(recipient=Party.session(recipient), data=data)


# What the owner has to do.


@frozen
class SendSignal:
    """Send this signal to the publisher's session."""

    signal: MediaSignal


@frozen
class OpenPeer:
    """Build a peer connection for this offer (replacing any other) and answer it."""

    sid: str
    sdp: str = field(repr=False)


@frozen
class Answer:
    """The existing peer connection gets a new offer with the same sid."""

    sid: str
    sdp: str = field(repr=False)


@frozen
class AddCandidate:
    """Give a remote candidate to the peer connection."""

    sid: str | None
    candidate: dict[str, Any] = field(repr=False)


@frozen
class ClosePeer:
    """Close the peer connection of this sid."""

    sid: str


NegotiationAction = SendSignal | OpenPeer | Answer | AddCandidate | ClosePeer


@frozen(kw_only=True)
class SubscriptionOptions:
    """Times of a subscription, all in seconds."""

    offer_timeout_s: float = 12.0
    """The server answers or fails within 10 s."""
    connect_timeout_s: float = 10.0
    """From the offer to a connected peer; a lost first check costs about 1 s."""
    stall_s: float = 10.0
    """No packet for this long: the publisher may have started anew unannounced."""
    longest_stall_s: float = 60.0
    """Asking anew without packets slows down to this: muted speakers send little."""
    longest_delay_s: float = 30.0
    """Longest pause between requests that fail."""


class _Stage(enum.Enum):
    IDLE = enum.auto()
    REQUESTED = enum.auto()
    OFFERED = enum.auto()
    CONNECTED = enum.auto()
    PAUSED = enum.auto()
    """Failed: the peer connection is given up, the next request is planned."""


_KEPT_CANDIDATES = 64
"""Candidates kept for an offer to come; beyond it the oldest are dropped. A
server has a handful of addresses."""

_KEPT_REQUESTS = 32
"""Requests whose errors are still recognised; the server takes up to 10 s."""


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
            maxlen=_KEPT_CANDIDATES
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


class Publication:
    """Publishes one stream: our offer, the server's answer and candidates.

    Args:
        sid: Chosen by us; names this peer connection.
        timeout_s: The server answers within 10 s.
    """

    def __init__(self, sid: str, timeout_s: float = 12.0) -> None:
        self.sid = sid
        self._timeout_s = timeout_s
        self._request_id: str | None = None
        self._deadline: float | None = None
        self._answered = False
        self._early: deque[dict[str, Any]] = deque(maxlen=_KEPT_CANDIDATES)
        self.error: str | None = None
        """Why it failed, once it did."""

    def offer(self, sdp: str, now: float) -> MediaSignal:
        """Return the offer to send to our own session id."""
        self._deadline = now + self._timeout_s
        return MediaSignal(kind="offer", sid=self.sid, sdp=sdp)

    def sent(self, request_id: str) -> None:
        """The offer went out with this id."""
        self._request_id = request_id

    def receive(self, signal: MediaSignal) -> list[NegotiationAction]:
        """A signal from our own stream arrived."""
        if signal.sid not in (None, self.sid):
            # About an earlier publication: a server that still has one answers a
            # new offer with the old sid, and that would never connect.
            return []
        if signal.kind == "answer" and signal.sdp is not None and not self._answered:
            self._answered = True
            self._deadline = None
            candidates = [AddCandidate(self.sid, one) for one in self._early]
            self._early.clear()
            return [Answer(self.sid, signal.sdp), *candidates]
        if signal.kind == "candidate" and signal.candidate is not None:
            if self._answered:
                return [AddCandidate(self.sid, signal.candidate)]
            self._early.append(signal.candidate)
        return []

    def receive_error(self, request_id: str, reason: str) -> bool:
        """An error answer arrived; returns whether it was about this offer."""
        if request_id != self._request_id:
            return False
        if not self._answered:
            self.error = reason
            self._deadline = None
        return True

    def deadline(self) -> float | None:
        """Return when `tick` must be called next; None if never."""
        return self._deadline

    def tick(self, now: float) -> None:
        """Fail if the answer did not come in time."""
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self.error = f"no answer within {self._timeout_s:g} s"
