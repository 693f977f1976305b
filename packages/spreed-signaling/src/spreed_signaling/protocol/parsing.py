# SPDX-License-Identifier: MIT
"""From a text frame to a message, for each direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .messages import (
    Bye,
    ClientHello,
    Control,
    DataMessage,
    DialoutMessage,
    ErrorMessage,
    HelloReply,
    InternalMessage,
    Message,
    RoomMessage,
    TransientMessage,
    Unknown,
    Welcome,
    decode_frame,
)
from .server_events import Event

__all__ = ["parse_client", "parse_server"]

_COMMON: tuple[type[Message], ...] = (
    Bye,
    Control,
    DataMessage,
    InternalMessage,
    RoomMessage,
    TransientMessage,
)
_FROM_SERVER: tuple[type[Message], ...] = (
    *_COMMON,
    DialoutMessage,
    ErrorMessage,
    Event,
    HelloReply,
    Welcome,
)
_SERVER: dict[str, type[Message]] = {kind.type: kind for kind in _FROM_SERVER}
_FROM_CLIENT: tuple[type[Message], ...] = (*_COMMON, ClientHello)
_CLIENT: dict[str, type[Message]] = {kind.type: kind for kind in _FROM_CLIENT}


def parse_server(text: str | bytes) -> Message:
    """Read a frame sent by the signaling server.

    Raises:
        ProtocolViolation: If the frame is not a JSON object with a `type`.
    """
    return _parse(_SERVER, decode_frame(text))


def parse_client(text: str | bytes) -> Message:
    """Read a frame sent by a client; a server's side of `parse_server`.

    Raises:
        ProtocolViolation: If the frame is not a JSON object with a `type`.
    """
    return _parse(_CLIENT, decode_frame(text))


def _parse(kinds: Mapping[str, type[Message]], data: dict[str, Any]) -> Message:
    kind = kinds.get(data["type"])
    if kind is None:
        message_id = data.get("id")
        known_id = message_id if isinstance(message_id, str) else None
        return Unknown(id=known_id, raw=data)
    return kind.from_envelope(data)
