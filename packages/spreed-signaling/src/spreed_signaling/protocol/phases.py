# SPDX-License-Identifier: MIT
"""Phases of a session, every way between them, and the times that rule them."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from attrs import frozen

from ..errors import SignalingError
from .backoff import REFUSED_DELAY_S

__all__ = ["TRANSITIONS", "Phase", "SessionOptions", "SessionStatus", "next_phase"]


class Phase(enum.Enum):
    """Where the session is."""

    DISCONNECTED = "disconnected"
    """No socket; the next attempt is planned."""
    HELLO = "hello"
    """Socket open, hello not answered yet."""
    READY = "ready"
    """Authenticated."""
    CLOSING = "closing"
    """We said goodbye."""
    FINISHED = "finished"
    """Over for good."""


TRANSITIONS: Mapping[tuple[Phase, str], Phase] = {
    (Phase.DISCONNECTED, "connection opened"): Phase.HELLO,
    (Phase.DISCONNECTED, "connection lost"): Phase.DISCONNECTED,
    (Phase.DISCONNECTED, "goodbye"): Phase.FINISHED,
    (Phase.HELLO, "hello accepted"): Phase.READY,
    (Phase.HELLO, "connection lost"): Phase.DISCONNECTED,
    (Phase.HELLO, "goodbye"): Phase.FINISHED,
    (Phase.HELLO, "ended"): Phase.FINISHED,
    (Phase.READY, "connection lost"): Phase.DISCONNECTED,
    (Phase.READY, "goodbye"): Phase.CLOSING,
    (Phase.READY, "ended"): Phase.FINISHED,
    (Phase.CLOSING, "connection lost"): Phase.FINISHED,
    (Phase.CLOSING, "ended"): Phase.FINISHED,
    (Phase.FINISHED, "connection lost"): Phase.FINISHED,
    (Phase.FINISHED, "ended"): Phase.FINISHED,
}
"""Every way from one phase to the next; the documentation's diagram shows it."""


def next_phase(phase: Phase, event: str) -> Phase:
    """Return the phase after `event`.

    Raises:
        AssertionError: If the event cannot happen in this phase: a bug of the
            shell that drives the session.
    """
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise AssertionError(f"{event!r} cannot happen in {phase}") from None


@frozen(kw_only=True)
class SessionOptions:
    """Times of a session, all in seconds, and limits."""

    hello_timeout_s: float = 12.0
    """How long the server may take to answer a hello (it gives Nextcloud 10 s)."""
    join_timeout_s: float = 12.0
    """How long joining a room may take (the server gives Nextcloud 10 s)."""
    bye_timeout_s: float = 1.0
    """How long the answer to our goodbye may take."""
    resume_window_s: float = 35.0
    """No resume is tried later than this after the loss (the server keeps 30 s)."""
    refused_delay_s: float = REFUSED_DELAY_S
    """Pause after a refused internal secret or an unknown backend."""
    blocked_delay_s: float = 1800.0
    """Pause after `too_many_requests`."""
    queue_limit: int = 256
    """Messages kept while disconnected; beyond it the oldest is given up."""
    send_limit: int = 4096
    """Messages waiting for a slow socket; beyond it the oldest is given up."""
    stable_s: float = 10.0
    """A session that was open this long ends an outage: delays start anew."""


@frozen(kw_only=True)
class SessionStatus:
    """A snapshot for people: what works, and if not, why and until when."""

    phase: Phase
    room_token: str | None
    in_room: bool
    error: SignalingError | None
    """The last problem, until it is solved."""
    retry_at: float | None
    """When the next attempt is due, on the clock of `now`; None if connected, or
    if the first attempt has not begun."""
