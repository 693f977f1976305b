# SPDX-License-Identifier: MIT
"""The signaling protocol without I/O: no socket, no clock, no task.

Integrators who bring their own event loop drive `SignalingSession`; everybody
else uses `spreed_signaling.connect`.
"""

from .auth import InternalAuth, TicketAuth, TokenAuth
from .negotiation import MediaSignal, PeerState, Publication, Subscription
from .phases import Phase, SessionOptions, SessionStatus
from .session import SignalingSession
from .settings import SignalingSettings, parse_settings

__all__ = [
    "InternalAuth",
    "MediaSignal",
    "PeerState",
    "Phase",
    "Publication",
    "SessionOptions",
    "SessionStatus",
    "SignalingSession",
    "SignalingSettings",
    "Subscription",
    "TicketAuth",
    "TokenAuth",
    "parse_settings",
]
