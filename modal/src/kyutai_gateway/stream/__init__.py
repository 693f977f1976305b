# SPDX-License-Identifier: MIT
"""One `/v1/stream` of the gateway: a machine without I/O and its thin shell."""

from __future__ import annotations

from .machine import Ending, StreamMachine
from .rules import StreamRules
from .shell import Message, Receive, Send, StreamShell

__all__ = [
    "Ending",
    "Message",
    "Receive",
    "Send",
    "StreamMachine",
    "StreamRules",
    "StreamShell",
]
