# SPDX-License-Identifier: MIT
"""From a websocket message of a gateway to its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...errors import ProtocolError
from ._fields import (
    Fields,
    integer,
    number,
    numbers,
    optional_integer,
    optional_number,
    read_object,
    refuse,
    text,
    truth,
)
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

__all__ = ["decode"]

LONGEST_DELAY_S = 60.0
"""No model is further behind; the session feeds as much silence as is named."""

LONGEST_CODE = 64
"""Characters; a longer code is no code."""


def decode(data: bytes | str) -> GatewayMessage:
    """Decode one websocket message; unknown fields are ignored.

    Args:
        data: The message; binary ones are refused, no gateway sends any.

    Raises:
        ProtocolError: If it is no JSON object of a known form.
    """
    if isinstance(data, bytes):
        raise ProtocolError(
            "the server speaks binary, a gateway speaks JSON: moshi-server itself "
            "needs the backend `moshi-server`"
        )
    fields = read_object(data)
    kind = fields.get("type")
    if kind is None:
        return _untyped(fields)
    if not isinstance(kind, str):
        refuse("a message", "type")
    decoder = _DECODERS.get(kind)
    return Unknown(kind=kind) if decoder is None else decoder(fields)


def _untyped(fields: Fields) -> GatewayMessage:
    if fields.get("error"):
        return _error({"message": str(fields["error"])})
    if "status" in fields:
        # Generation 1 has one: complete.
        return End() if fields["status"] == "complete" else Unknown(kind="status")
    if "text" in fields:
        return _transcript(fields)
    return Unknown(kind="")


def _ready(fields: Fields) -> Ready:
    languages = fields.get("languages", [])
    if not isinstance(languages, list) or not all(
        isinstance(one, str) for one in languages
    ):
        refuse("ready", "languages")
    delay_s = number(fields, "delay_ms", 480.0) / 1000
    if not 0 <= delay_s <= LONGEST_DELAY_S:
        refuse("ready", "delay_ms")
    return Ready(
        protocol=integer(fields, "protocol", 1),
        delay_s=delay_s,
        languages=tuple(languages),
        acks=truth(fields, "acks"),
        pause_horizons_s=numbers(fields, "pause_horizons_s"),
    )


def _token(fields: Fields) -> GatewayMessage:
    if truth(fields, "final") or truth(fields, "vad_end"):
        return _transcript(fields)
    return Token(
        text=text(fields),
        epoch=optional_integer(fields, "epoch"),
        index=optional_integer(fields, "index"),
        start_s=optional_number(fields, "start"),
    )


def _transcript(fields: Fields) -> Transcript:
    return Transcript(
        text=text(fields),
        final=truth(fields, "final"),
        vad_end=truth(fields, "vad_end"),
    )


def _final(fields: Fields) -> Transcript:
    return Transcript(text=text(fields), final=True, vad_end=False)


def _word_end(fields: Fields) -> WordEnd:
    return WordEnd(
        epoch=optional_integer(fields, "epoch"),
        index=integer(fields, "index"),
        end_s=number(fields, "end"),
    )


def _ack(fields: Fields) -> Ack:
    return Ack(
        epoch=optional_integer(fields, "epoch"),
        samples=integer(fields, "samples"),
        prs=numbers(fields, "prs"),
    )


def _error(fields: Fields) -> Error:
    code, message = fields.get("code", ""), fields.get("message", "")
    # A code is shown as it is: no line breaks, no control or half characters.
    shown = isinstance(code, str) and len(code) <= LONGEST_CODE and code.isprintable()
    return Error(
        code=code if shown else "",
        message=message if isinstance(message, str) else "",
        retryable=fields.get("retryable") is not False,
    )


_DECODERS: Mapping[str, Callable[[Fields], GatewayMessage]] = {
    "ready": _ready,
    "token": _token,
    "word": _token,
    "final": _final,
    "word_end": _word_end,
    "vad_end": lambda fields: VadEnd(epoch=optional_integer(fields, "epoch")),
    "ack": _ack,
    "flushed": lambda fields: Flushed(number=optional_integer(fields, "id")),
    "was_reset": lambda fields: WasReset(epoch=optional_integer(fields, "epoch")),
    "ping": lambda fields: Ping(),
    "draining": lambda fields: Draining(deadline_s=number(fields, "deadline_s", 0.0)),
    "error": _error,
    "end": lambda fields: End(),
}
