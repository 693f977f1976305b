"""A subscription driven by hand, and signals to feed it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spreed_signaling.protocol.negotiation import (
    ClosePeer,
    MediaSignal,
    NegotiationAction,
    PeerState,
    SendSignal,
    Subscription,
)

FIRST = {"candidate": "candidate:1 1 udp 1 192.0.2.10 1 typ host", "sdpMid": "0"}
# Seen from Janus: the index counts then.
SECOND = {"candidate": "candidate:2 1 udp 1 192.0.2.10 2 typ host", "sdpMid": ""}


def offer(sid: str | None, sdp: str | None = "v=0") -> MediaSignal:
    return MediaSignal(kind="offer", sid=sid, sdp=sdp)


def candidate(sid: str | None, which: dict[str, Any] = FIRST) -> MediaSignal:
    return MediaSignal(kind="candidate", sid=sid, candidate=which)


class Case:
    """A subscription and the owner that drives it; ids count up."""

    def __init__(self) -> None:
        self.now = 100.0
        self.core = Subscription("P")
        self.last_id = 0
        self.actions: list[NegotiationAction] = []

    def do(self, actions: Iterable[NegotiationAction]) -> list[NegotiationAction]:
        """Send what has to be sent; returns everything."""
        done = list(actions)
        for action in done:
            if isinstance(action, SendSignal):
                self.last_id += 1
                self.core.sent(str(self.last_id))
        return done

    def start(self) -> None:
        self.assert_requested(self.do(self.core.start(self.now)))

    def hear(self, signal: MediaSignal) -> list[NegotiationAction]:
        return self.do(self.core.receive(signal, self.now))

    def error(self, request_id: int | None = None) -> bool:
        number = self.last_id if request_id is None else request_id
        return self.core.receive_error(str(number), self.now)

    def answer(self, sid: str) -> None:
        [action] = self.do(self.core.answer_ready(sid, "v=0 answer"))
        assert isinstance(action, SendSignal)
        assert (action.signal.kind, action.signal.sid) == ("answer", sid)

    def peer(self, state: PeerState, sid: str = "1") -> None:
        self.core.peer_changed(sid, state, self.now)

    def connected(self) -> None:
        self.start()
        self.hear(offer("1"))
        self.answer("1")
        self.peer(PeerState.CONNECTED)
        assert self.core.connected

    def advance(self, seconds: float) -> list[NegotiationAction]:
        self.now += seconds
        return self.do(self.core.tick(self.now))

    def until_due(self) -> float:
        due = self.core.deadline()
        assert due is not None
        return due - self.now

    def assert_requested(
        self, actions: list[NegotiationAction], *, closing: str | None = None
    ) -> None:
        """An offer was requested without sid, and the old peer given up."""
        *closed, request = actions
        assert isinstance(request, SendSignal)
        assert request.signal == MediaSignal(kind="requestoffer")
        assert closed == ([] if closing is None else [ClosePeer(closing)])

    def assert_retry_planned(self, least: float, most: float) -> None:
        assert not self.core.connected
        assert least <= self.until_due() <= most
