# SPDX-License-Identifier: MIT
"""What moshi-server 0.6.4 speaks on `/api/asr-streaming`: MessagePack maps.

Each websocket message is one map whose key `type` names it. Towards the server:
`Audio`, `Init`, `Marker`. From it: `Ready`, `Step`, `Word`, `EndWord`, `Marker`,
`Error`. No I/O happens here.

The cost of a client is the encoding of audio, so frames are not built through
Python floats: a template of the whole message is kept and only its samples are
written, big-endian, five bytes apart (`FrameEncoder`).

Source: rust/moshi-server/src/{asr,batched_asr}.rs, release 0.6.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

import msgpack
import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from ..errors import AudioFormatError, ProtocolError

__all__ = [
    "EMPTY_AUDIO",
    "INIT",
    "EndWord",
    "Error",
    "FrameEncoder",
    "Marker",
    "Ready",
    "ServerMessage",
    "Step",
    "Unknown",
    "Word",
    "decode",
    "encode_audio",
    "encode_marker",
]

Samples = npt.NDArray[np.float32]

AUDIO_PREFIX = b"\x82\xa4type\xa5Audio\xa3pcm"
"""A map of two: `type` is `Audio`, and `pcm`, whose array follows."""

FLOAT32 = 0xCA
"""MessagePack's marker of a single float."""

SAMPLE = np.dtype([("marker", "u1"), ("value", ">f4")])
"""One sample as it lies in the message: 5 bytes, unaligned."""

NUMBERS = frozenset((int, float))
"""A whole number may come as an integer; a truth value is none."""

INIT = b"\x81\xa4type\xa4Init"
"""Begin anew: resets the slot, answered by `Ready`, in order with the audio."""

EMPTY_AUDIO = AUDIO_PREFIX + b"\x90"
"""Audio of no samples: keeps the connection open and costs no model step."""


# -- towards the server ----------------------------------------------------------


class FrameEncoder:
    """Encodes frames of one length, quickly; for one connection.

    The result is a copy, so it may be queued and the encoder used again.

    Args:
        samples: Samples in each frame, 1 920 for one model step.
    """

    def __init__(self, samples: int = 1920) -> None:
        self._message = bytearray(encode_audio(np.zeros(samples, dtype=np.float32)))
        offset = len(self._message) - samples * SAMPLE.itemsize
        body = np.frombuffer(self._message, dtype=SAMPLE, offset=offset)
        self._values: npt.NDArray[Any] = body["value"]

    def encode(self, frame: Samples) -> bytes:
        """Encode one frame as an `Audio` message.

        Args:
            frame: Mono PCM, float32, shape `(samples,)`, -1.0 to 1.0, 24 000 Hz.

        Raises:
            AudioFormatError: If the frame has another shape.
        """
        if frame.shape != self._values.shape:
            raise AudioFormatError(f"a frame of shape {frame.shape} does not fit")
        self._values[:] = frame
        return bytes(self._message)


def encode_audio(pcm: Samples) -> bytes:
    """Encode audio of any length, byte for byte as msgpack with single floats.

    Args:
        pcm: Mono PCM, float32, shape `(n,)`, -1.0 to 1.0, 24 000 Hz. The server
            processes at most 1 920 samples of it in one turn.
    """
    body = np.empty(len(pcm), dtype=SAMPLE)
    body["marker"] = FLOAT32
    body["value"] = pcm
    return AUDIO_PREFIX + _array_header(len(pcm)) + body.tobytes()


def encode_marker(marker_id: int) -> bytes:
    """Encode a request for an echo.

    It returns once the server has taken everything sent before it and the global
    step count has advanced by the model's delay: never, if nobody feeds audio.

    Args:
        marker_id: Comes back in the echo; a signed 64-bit integer.
    """
    return b"\x82\xa4type\xa6Marker\xa2id" + _packed(marker_id)


def _array_header(count: int) -> bytes:
    if count <= 15:
        return bytes([0x90 | count])
    if count <= 0xFFFF:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def _packed(value: int) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


# -- from the server -------------------------------------------------------------


@frozen(kw_only=True)
class Ready:
    """The model loop has taken an `Init`; the only proof that it runs."""


@frozen(kw_only=True)
class Step:
    """1 920 samples of this stream were processed.

    The server's own step index is left out: it counts the steps of all streams.
    """

    prs: tuple[float, ...]
    """Probability that no word follows within 0.5, 1, 2 and 3 s."""


@frozen(kw_only=True)
class Word:
    """A word is complete."""

    text: str = field(repr=False)
    """Without leading space; may hold several words, or none."""
    start_s: float
    """Seconds of audio since the last `Init`."""


@frozen(kw_only=True)
class EndWord:
    """The last word has ended; comes late, or never."""

    stop_s: float
    """Seconds of audio since the last `Init`."""


@frozen(kw_only=True)
class Marker:
    """The echo of a marker."""

    marker_id: int
    """As it was sent."""


@frozen(kw_only=True)
class Error:
    """The server gives up; a full server says `no free channels`."""

    message: str
    """For people; comes from the server."""


@frozen(kw_only=True)
class Unknown:
    """A message of a type that is not known here; to be ignored."""

    kind: str
    """Its type."""


ServerMessage = Ready | Step | Word | EndWord | Marker | Error | Unknown
"""Everything that `decode` returns."""


def decode(data: bytes | str) -> ServerMessage:
    """Decode one websocket message; unknown fields are ignored.

    Args:
        data: The message; text is refused, this protocol has none.

    Raises:
        ProtocolError: If it is not a MessagePack map of the known form.
    """
    if isinstance(data, str):
        raise ProtocolError(
            "the server speaks text, moshi-server speaks MessagePack: a gateway "
            "needs the backend `modal`"
        )
    message = _unpacked(data)
    kind = message.get("type")
    match kind:
        case "Step":
            return Step(prs=_probabilities(message.get("prs", [])))
        case "Word":
            text = _text(message, "text")
            return Word(text=text, start_s=_seconds(message, "start_time"))
        case "EndWord":
            return EndWord(stop_s=_seconds(message, "stop_time"))
        case "Ready":
            return Ready()
        case "Marker":
            return Marker(marker_id=_integer(message, "id"))
        case "Error":
            return Error(message=_text(message, "message"))
        case str():
            return Unknown(kind=kind)
    raise ProtocolError("moshi-server sent a message without a type")


def _unpacked(data: bytes) -> Mapping[str, Any]:
    try:
        message = msgpack.unpackb(data)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as exc:
        # The chain would show the data, and with it perhaps what was said.
        raise ProtocolError(
            f"moshi-server sent {len(data)} bytes that are no MessagePack "
            f"({type(exc).__name__})"
        ) from None
    if not isinstance(message, dict):
        raise ProtocolError("moshi-server sent MessagePack that is no map")
    return message


def _text(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str):
        raise ProtocolError(f"moshi-server sent {message['type']} without {key}")
    return value


def _integer(message: Mapping[str, Any], key: str) -> int:
    value = message.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProtocolError(f"moshi-server sent {message['type']} without {key}")
    return value


def _seconds(message: Mapping[str, Any], key: str) -> float:
    value = message.get(key)
    if not _is_number(value):
        raise ProtocolError(f"moshi-server sent {message['type']} without {key}")
    return value


def _probabilities(value: Any) -> tuple[float, ...]:
    # At once, and not one by one: every step of every stream has four.
    if (
        type(value) is not list
        or not NUMBERS.issuperset(map(type, value))
        or not all(map(math.isfinite, value))
    ):
        raise ProtocolError("moshi-server sent a Step with odd probabilities")
    return tuple(value)


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) in NUMBERS and math.isfinite(value)
