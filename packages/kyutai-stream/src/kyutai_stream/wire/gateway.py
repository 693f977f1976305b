# SPDX-License-Identifier: MIT
"""What gateways speak on `/v1/stream`: JSON in text messages, raw audio in binary.

One decoder for every dialect in the field: protocol 1 of our own gateway
(decisions.md), three older generations, and the bare `{"text","final","vad_end"}` of
the project document. They share names, so the messages are told apart by their
keys alone; what a message means in its dialect is the reader's business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeGuard

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from ..errors import ProtocolError

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

Samples = npt.NDArray[np.float32]
Fields = Mapping[str, Any]

LONGEST_DELAY_S = 60.0
"""No model is further behind; the session feeds as much silence as is named."""

KEEPALIVE = b""
"""An empty binary message; generation 1 does not know it."""

# -- towards the gateway ---------------------------------------------------------


def encode_frame(pcm: Samples) -> bytes:
    """Encode audio as all but generation 1 want it: float32, little-endian.

    Args:
        pcm: Mono PCM, float32, shape `(n,)`, -1.0 to 1.0, 24 000 Hz.
    """
    return np.ascontiguousarray(pcm, dtype="<f4").tobytes()


def encode_pcm16(pcm: Samples) -> bytes:
    """Encode audio for generation 1: int16, little-endian; clips.

    Args:
        pcm: Mono PCM, float32, shape `(n,)`, -1.0 to 1.0, 24 000 Hz.
    """
    scaled = np.rint(pcm * np.float32(32768)).clip(-32768, 32767)
    return bytes(scaled.astype("<i2").tobytes())


def encode_flush(number: int) -> str:
    """Ask for the last words now (protocol 1); answered by `Flushed`."""
    return f'{{"type":"flush","id":{number}}}'


def encode_reset(number: int) -> str:
    """Ask for a fresh start (protocol 1); answered by `WasReset`."""
    return f'{{"type":"reset","id":{number}}}'


# -- from the gateway ------------------------------------------------------------


@frozen(kw_only=True)
class Ready:
    """The model behind the gateway answered; only protocol 1 says so."""

    protocol: int
    """Version of the protocol."""
    delay_s: float
    """How far words are behind the audio, seconds."""
    languages: tuple[str, ...]
    """ISO 639-1 codes."""
    acks: bool
    """Whether `Ack` comes."""
    pause_horizons_s: tuple[float, ...]
    """Horizons of the probabilities in `Ack`, seconds."""


@frozen(kw_only=True)
class Token:
    """A word, or in generation 2 a piece of one."""

    text: str = field(repr=False)
    """With the leading space that it came with, if any."""
    epoch: int | None
    """Counts resets; None in older dialects, as all below."""
    index: int | None
    """Counts words of the epoch."""
    start_s: float | None
    """Seconds of client audio."""


@frozen(kw_only=True)
class Transcript:
    """Text without a type: a word, a chunk, or all of the utterance so far."""

    text: str = field(repr=False)
    """May be empty."""
    final: bool
    """Whether the utterance is complete."""
    vad_end: bool
    """Whether the speaker paused."""


@frozen(kw_only=True)
class WordEnd:
    """Where a word ended."""

    epoch: int | None
    """As in its token."""
    index: int
    """As in its token."""
    end_s: float
    """Seconds of client audio."""


@frozen(kw_only=True)
class VadEnd:
    """The speaker paused."""

    epoch: int | None
    """Counts resets; None in older dialects."""


@frozen(kw_only=True)
class Ack:
    """How far the model is."""

    epoch: int | None
    """Counts resets."""
    samples: int
    """Client samples processed in this epoch."""
    prs: tuple[float, ...]
    """Pause probabilities."""


@frozen(kw_only=True)
class Flushed:
    """A flush is done."""

    number: int | None
    """As it was asked for."""


@frozen(kw_only=True)
class WasReset:
    """A reset is done; the next epoch begins."""

    epoch: int | None
    """Number of that epoch."""


@frozen(kw_only=True)
class Ping:
    """A sign of life that every load balancer counts."""


@frozen(kw_only=True)
class Draining:
    """The gateway will close."""

    deadline_s: float
    """Seconds from now."""


@frozen(kw_only=True)
class Error:
    """Something went wrong; a close follows most of them."""

    code: str
    """Machine-readable; empty in older dialects."""
    message: str
    """For people; comes from the server."""
    retryable: bool
    """Whether the same may work later."""


@frozen(kw_only=True)
class End:
    """All words are out; the gateway closes next."""


@frozen(kw_only=True)
class Unknown:
    """A message that is not known here; to be ignored."""

    kind: str
    """Its type; empty if it has none."""


GatewayMessage = (
    Ready
    | Token
    | Transcript
    | WordEnd
    | VadEnd
    | Ack
    | Flushed
    | WasReset
    | Ping
    | Draining
    | Error
    | End
    | Unknown
)
"""Everything that `decode` returns."""


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
    fields = _object(data)
    kind = fields.get("type")
    if kind is None:
        return _untyped(fields)
    if not isinstance(kind, str):
        _refuse("a message", "type")
    decoder = _DECODERS.get(kind)
    return Unknown(kind=kind) if decoder is None else decoder(fields)


def _object(data: str) -> Fields:
    try:
        fields = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        # The chain would show the data, and with it perhaps what was said.
        raise ProtocolError(
            f"the gateway sent {len(data)} characters that are no JSON "
            f"({type(exc).__name__})"
        ) from None
    if not isinstance(fields, dict):
        raise ProtocolError("the gateway sent JSON that is no object")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


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
        _refuse("ready", "languages")
    delay_s = _number(fields, "delay_ms", 480.0) / 1000
    if not 0 <= delay_s <= LONGEST_DELAY_S:
        _refuse("ready", "delay_ms")
    return Ready(
        protocol=_integer(fields, "protocol", 1),
        delay_s=delay_s,
        languages=tuple(languages),
        acks=_truth(fields, "acks"),
        pause_horizons_s=_numbers(fields, "pause_horizons_s"),
    )


def _token(fields: Fields) -> GatewayMessage:
    if _truth(fields, "final") or _truth(fields, "vad_end"):
        return _transcript(fields)
    return Token(
        text=_text(fields),
        epoch=_optional_integer(fields, "epoch"),
        index=_optional_integer(fields, "index"),
        start_s=_optional_number(fields, "start"),
    )


def _transcript(fields: Fields) -> Transcript:
    return Transcript(
        text=_text(fields),
        final=_truth(fields, "final"),
        vad_end=_truth(fields, "vad_end"),
    )


def _final(fields: Fields) -> Transcript:
    return Transcript(text=_text(fields), final=True, vad_end=False)


def _word_end(fields: Fields) -> WordEnd:
    return WordEnd(
        epoch=_optional_integer(fields, "epoch"),
        index=_integer(fields, "index"),
        end_s=_number(fields, "end"),
    )


def _ack(fields: Fields) -> Ack:
    return Ack(
        epoch=_optional_integer(fields, "epoch"),
        samples=_integer(fields, "samples"),
        prs=_numbers(fields, "prs"),
    )


def _error(fields: Fields) -> Error:
    code, message = fields.get("code", ""), fields.get("message", "")
    return Error(
        code=code if isinstance(code, str) else "",
        message=message if isinstance(message, str) else "",
        retryable=fields.get("retryable") is not False,
    )


_DECODERS: Mapping[str, Callable[[Fields], GatewayMessage]] = {
    "ready": _ready,
    "token": _token,
    "word": _token,
    "final": _final,
    "word_end": _word_end,
    "vad_end": lambda fields: VadEnd(epoch=_optional_integer(fields, "epoch")),
    "ack": _ack,
    "flushed": lambda fields: Flushed(number=_optional_integer(fields, "id")),
    "was_reset": lambda fields: WasReset(epoch=_optional_integer(fields, "epoch")),
    "ping": lambda fields: Ping(),
    "draining": lambda fields: Draining(deadline_s=_number(fields, "deadline_s", 0.0)),
    "error": _error,
    "end": lambda fields: End(),
}


def _text(fields: Fields) -> str:
    text = fields.get("text", "")
    if not isinstance(text, str):
        _refuse(fields.get("type", "text"), "text")
    # JSON may hold half a character, which nothing can encode any more.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _truth(fields: Fields, key: str) -> bool:
    value = fields.get(key)
    if value is not None and not isinstance(value, bool):
        _refuse(fields.get("type", "text"), key)
    return bool(value)


def _integer(fields: Fields, key: str, default: int | None = None) -> int:
    value = fields.get(key, default)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        _refuse(fields["type"], key)
    return value


def _optional_integer(fields: Fields, key: str) -> int | None:
    return None if fields.get(key) is None else _integer(fields, key)


def _number(fields: Fields, key: str, default: float | None = None) -> float:
    value = fields.get(key, default)
    if not _is_number(value):
        _refuse(fields["type"], key)
    return float(value)


def _optional_number(fields: Fields, key: str) -> float | None:
    return None if fields.get(key) is None else _number(fields, key)


def _numbers(fields: Fields, key: str) -> tuple[float, ...]:
    values = fields.get(key)
    if values is None:
        return ()
    if not isinstance(values, list) or not all(map(_is_number, values)):
        _refuse(fields["type"], key)
    return tuple(map(float, values))


def _is_number(value: Any) -> TypeGuard[float]:
    # A truth value is no number; 1e999 is infinite, a long integer no float.
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return type(value) is float and math.isfinite(value)


def _refuse(kind: object, key: str) -> NoReturn:
    raise ProtocolError(f"the gateway sent {str(kind)[:20]!r} with an odd {key!r}")
