# SPDX-License-Identifier: MIT
"""What may go wrong: before the upgrade, at the start, and in mid-stream.

An `Attempt` is the plan for one connection attempt; its incidents happen by the
audio received or by time. `GatewayConnection.happen` makes one happen at once.
"""

from __future__ import annotations

from attrs import Factory, field, frozen

__all__ = [
    "Abort",
    "At",
    "Attempt",
    "CloseWith",
    "Drain",
    "Fail",
    "Garbage",
    "HalfOpen",
    "Incident",
    "Resume",
    "SendRaw",
    "StaleEpoch",
    "StopSteps",
    "StopWords",
    "UnknownMessages",
]


@frozen(kw_only=True)
class Abort:
    """The TCP connection ends without a close frame (time limit, preemption)."""


@frozen(kw_only=True)
class CloseWith:
    """The websocket is closed with a code."""

    code: int
    """RFC 6455 close code; 1005 for a Close without one, 1006 for no Close."""
    reason: str = ""
    """Its reason."""


@frozen(kw_only=True)
class HalfOpen:
    """The other side is gone and nobody says so: nothing is read or sent."""


@frozen(kw_only=True)
class Fail:
    """The gateway reports an error and closes, as its dialect does that.

    Protocol 1 sends `error` with the code and closes with 1011 (`upstream_lost`,
    `upstream_wedged`, `internal`), 1000 (`idle_timeout`), 1012 (`draining`) or
    1013 (`capacity`); gen 3 says nothing and closes with 1000.
    """

    code: str = "upstream_lost"
    """An error code of protocol 1."""


@frozen(kw_only=True)
class Drain:
    """A planned end: `draining`, then the words still inside, then close 1012."""

    deadline_s: float = 5.0
    """Seconds until the gateway closes."""


@frozen(kw_only=True)
class StopSteps:
    """The model stands still; nobody reports it."""


@frozen(kw_only=True)
class Resume:
    """A model that stood still goes on; nothing was lost."""


@frozen(kw_only=True)
class StopWords:
    """The model steps on and finds no words any more, until a reset."""


@frozen(kw_only=True)
class Garbage:
    """Messages that are no messages: broken JSON, wrong shapes, binary."""


@frozen(kw_only=True)
class UnknownMessages:
    """A message type of the future, and known ones with unknown fields."""


@frozen(kw_only=True)
class StaleEpoch:
    """The last words once more, with the number of an epoch that is over."""


@frozen(kw_only=True)
class SendRaw:
    """Any message."""

    message: str | bytes = field(repr=False)
    """Text or binary, sent as it is."""


Incident = (
    Abort
    | CloseWith
    | HalfOpen
    | Fail
    | Drain
    | Resume
    | StopSteps
    | StopWords
    | Garbage
    | UnknownMessages
    | StaleEpoch
    | SendRaw
)
"""Everything that may happen to a working connection."""


@frozen(kw_only=True)
class At:
    """When an incident happens."""

    incident: Incident
    """What happens."""
    frame: int | None = None
    """After so many received frames of 1920 samples."""
    after_s: float | None = None
    """Seconds after the connection was accepted (scaled like all timers)."""


@frozen(kw_only=True)
class Attempt:
    """The plan for one connection attempt; the default goes well."""

    handshake_s: float = 0.0
    """Seconds the handshake waits (a container starts)."""
    status: int | None = None
    """HTTP status instead of the upgrade: 303, 401, 403, 404, 429, 503 ..."""
    headers: dict[str, str] = Factory(dict)
    """Headers of that answer, such as `Retry-After` or `Location`."""
    full: bool = False
    """No free place: refused after the upgrade, as the dialect does that."""
    ready_s: float = 0.0
    """Seconds until the model behind the gateway is ready; audio waits."""
    close_first: int | None = None
    """Close code before the first message (1011: the input got lost)."""
    never_ready: bool = False
    """Accepts and then says nothing (a dead model loop)."""
    incidents: tuple[At, ...] = ()
    """What happens later."""
