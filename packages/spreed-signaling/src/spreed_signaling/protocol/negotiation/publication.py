# SPDX-License-Identifier: MIT
"""Publishing one stream: offer, and take the answer."""

from __future__ import annotations

from collections import deque
from typing import Any

from .signals import (
    KEPT_CANDIDATES,
    AddCandidate,
    Answer,
    MediaSignal,
    NegotiationAction,
)

__all__ = ["Publication"]


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
        self._early: deque[dict[str, Any]] = deque(maxlen=KEPT_CANDIDATES)
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
