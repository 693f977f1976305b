# SPDX-License-Identifier: MIT
"""The server's side of the wire, read from the reference and not from our client.

Source:
    `rust/moshi-server/src/asr.rs` (0.6.4), `InMsg` and `OutMsg`: one MessagePack
    map per binary frame, tagged by `type`. The server's decoder takes any number
    where it wants a float, ignores unknown fields and drops the connection on
    anything else; single floats are written as such (`prs`), times as doubles.
"""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
from attrs import field, frozen

__all__ = [
    "Audio",
    "BadMessage",
    "EndWord",
    "Error",
    "Inbound",
    "Init",
    "Marker",
    "OggOpus",
    "Outbound",
    "Ready",
    "Step",
    "Word",
    "decode",
    "encode",
]

MAX_LENGTH = 1 << 24


class BadMessage(ValueError):
    """A client sent what the server cannot read; it drops the connection."""


@frozen(kw_only=True)
class Init:
    """Reset this stream."""


@frozen(kw_only=True, eq=False)
class Audio:
    """Audio of any length, none included."""

    pcm: npt.NDArray[np.float32] = field(repr=False)
    """Mono PCM, float32, shape `(n,)`, -1.0 to 1.0, 24 000 Hz."""


@frozen(kw_only=True)
class OggOpus:
    """Ogg pages; the fake does not decode them."""

    data: bytes = field(repr=False)
    """What came, as bytes."""


@frozen(kw_only=True)
class Marker:
    """To be echoed when the audio before it is through; also the echo."""

    id: int
    """Chosen by the client."""


@frozen(kw_only=True)
class Ready:
    """The model loop has taken the Init."""


@frozen(kw_only=True)
class Step:
    """A frame was processed."""

    step_idx: int
    """Counts the server's steps, not the stream's."""
    prs: tuple[float, ...]
    """Pause probabilities."""
    buffered_pcm: int
    """Samples left over from messages longer than a frame."""


@frozen(kw_only=True)
class Word:
    """A word is complete."""

    text: str = field(repr=False)
    """Without a leading space."""
    start_time: float
    """Seconds of the stream."""


@frozen(kw_only=True)
class EndWord:
    """The end of the last word, known when the next one begins."""

    stop_time: float
    """Seconds of the stream."""


@frozen(kw_only=True)
class Error:
    """A refusal."""

    message: str
    """For people."""


Inbound = Init | Audio | OggOpus | Marker
Outbound = Ready | Step | Word | EndWord | Marker | Error


def decode(data: bytes) -> Inbound:
    """Read a client's message.

    Raises:
        BadMessage: If it is none.
    """
    quick = _full_frame(data)
    if quick is not None:
        return Audio(pcm=quick)
    try:
        message = msgpack.unpackb(
            data, raw=False, strict_map_key=False, max_array_len=MAX_LENGTH
        )
    except Exception as exc:  # msgpack raises many kinds, ValueErrors and others
        raise BadMessage("no MessagePack") from exc
    if not isinstance(message, dict):
        raise BadMessage("no map")
    match message.get("type"):
        case "Init":
            return Init()
        case "Audio":
            return Audio(pcm=_floats(message.get("pcm")))
        case "OggOpus":
            return OggOpus(data=_octets(message.get("data")))
        case "Marker":
            return Marker(id=_integer(message.get("id")))
    raise BadMessage("unknown type")


_HEAD = b"\x82\xa4type\xa5Audio\xa3pcm\xdc\x07\x80"
_SAMPLE = np.dtype([("kind", "u1"), ("value", ">f4")])
_SINGLE = 0xCA


def _full_frame(data: bytes) -> npt.NDArray[np.float32] | None:
    """1 920 single floats, by far the most common message, without Python floats."""
    if len(data) != len(_HEAD) + 1920 * 5 or not data.startswith(_HEAD):
        return None
    samples = np.frombuffer(data, dtype=_SAMPLE, offset=len(_HEAD))
    if not (samples["kind"] == _SINGLE).all():
        return None
    return samples["value"].astype(np.float32)


def _floats(value: object) -> npt.NDArray[np.float32]:
    if not isinstance(value, list):
        raise BadMessage("pcm is no array")
    if not all(type(item) in (int, float) for item in value):
        raise BadMessage("pcm holds something else than numbers")
    with np.errstate(over="ignore"):
        return np.array(value, dtype=np.float64).astype(np.float32)


def _octets(value: object) -> bytes:
    # `Vec<u8>` behind an internally tagged enum: an array of numbers, no `bin`.
    if not isinstance(value, list):
        raise BadMessage("data is no array")
    try:
        return bytes(value)
    except (TypeError, ValueError) as exc:
        raise BadMessage("data holds something else than octets") from exc


def _integer(value: object) -> int:
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise BadMessage("id is no 64-bit integer")
    return value


def encode(message: Outbound) -> bytes:
    """Write a message of the server."""
    match message:
        case Ready():
            return _map("Ready")
        case Step():
            singles: bytes = msgpack.packb(list(message.prs), use_single_float=True)
            return _map(
                "Step",
                step_idx=msgpack.packb(message.step_idx),
                prs=singles,
                buffered_pcm=msgpack.packb(message.buffered_pcm),
            )
        case Word():
            text, start = message.text, float(message.start_time)
            return _map(
                "Word", text=msgpack.packb(text), start_time=msgpack.packb(start)
            )
        case EndWord():
            return _map("EndWord", stop_time=msgpack.packb(float(message.stop_time)))
        case Marker():
            return _map("Marker", id=msgpack.packb(message.id))
        case Error():
            return _map("Error", message=msgpack.packb(message.message))


def _map(kind: str, **fields: Any) -> bytes:
    parts = [bytes([0x81 + len(fields)]), msgpack.packb("type"), msgpack.packb(kind)]
    for name, packed in fields.items():
        parts += [msgpack.packb(name), packed]
    return b"".join(parts)
