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

from .publication import Publication
from .signals import (
    AddCandidate,
    Answer,
    ClosePeer,
    MediaSignal,
    NegotiationAction,
    OpenPeer,
    PeerState,
    SendSignal,
)
from .subscription import Subscription, SubscriptionOptions

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
