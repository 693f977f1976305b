# SPDX-License-Identifier: MIT
"""What gateways speak on `/v1/stream`: JSON in text messages, raw audio in binary.

One decoder for every dialect in the field: protocol 1 of our own gateway
(decisions.md), three older generations, and the bare `{"text","final","vad_end"}` of
the project document. They share names, so the messages are told apart by their
keys alone; what a message means in its dialect is the reader's business.
"""

from __future__ import annotations

from .messages import (
    Ack,
    Draining,
    End,
    Error,
    Flushed,
    GatewayMessage,
    Ping,
    Ready,
    Token,
    Transcript,
    Unknown,
    VadEnd,
    WasReset,
    WordEnd,
)
from .reading import decode
from .writing import KEEPALIVE, encode_flush, encode_frame, encode_pcm16, encode_reset

__all__ = [
    "KEEPALIVE",
    "Ack",
    "Draining",
    "End",
    "Error",
    "Flushed",
    "GatewayMessage",
    "Ping",
    "Ready",
    "Token",
    "Transcript",
    "Unknown",
    "VadEnd",
    "WasReset",
    "WordEnd",
    "decode",
    "encode_flush",
    "encode_frame",
    "encode_pcm16",
    "encode_reset",
]
