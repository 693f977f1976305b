# SPDX-License-Identifier: MIT
"""Peer connections driven by their negotiation: one task each.

Gathering candidates and building connections takes time; every stream does it
in its own task, so that none delays another or the signaling.
"""

from .publisher import PublisherLink
from .subscriber import SubscriberLink

__all__ = ["PublisherLink", "SubscriberLink"]
