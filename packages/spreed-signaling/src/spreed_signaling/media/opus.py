# SPDX-License-Identifier: MIT
"""Opus to mono float32 at the rate that is wanted, without a detour over 48 kHz.

libopus decodes to 8, 12, 16, 24 and 48 kHz by itself and mixes to mono; that costs
less than decoding to 48 kHz stereo alone. It is called through ctypes, which
releases the GIL. Three routes, tried in this order: the system's libopus, the one
inside the PyAV wheel, and PyAV itself with its resampler (no FEC, no concealment).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import av
import av.error
import numpy as np
import numpy.typing as npt
from attrs import frozen

from .rtp.opus_packet import read_packet

__all__ = [
    "RATES",
    "AvDecoder",
    "Decoder",
    "LibOpus",
    "OpusDecoder",
    "find_libopus",
    "open_decoder",
]

_log = logging.getLogger("spreed_signaling.media")

RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Hz, what libopus decodes to (opus_decoder.h)."""

_RTP_RATE = 48_000


class Decoder(Protocol):
    """Decodes one stream; every method returns the samples it wrote."""

    can_conceal: bool
    """Whether `recover` and `conceal` do anything."""

    def decode(self, payload: bytes, out: npt.NDArray[np.float32], at: int = 0) -> int:
        """Decode a packet into `out`, shape `(n,)`, from `at`; negative if invalid.

        There must be room for 120 ms. Never raises because of the payload.
        """

    def recover(
        self,
        following: bytes,
        out: npt.NDArray[np.float32],
        samples: int,
        at: int = 0,
    ) -> int:
        """Decode a lost packet from the FEC data of the one after it."""

    def conceal(self, out: npt.NDArray[np.float32], samples: int, at: int = 0) -> int:
        """Go on with what was heard last, fading; multiples of 2.5 ms."""

    def reset(self) -> None:
        """Forget what was heard: the next packet begins a new stream."""

    def close(self) -> None:
        """Free what it holds; it must not be used any more."""


@frozen
class LibOpus:
    """A loaded libopus."""

    version: str
    """As it calls itself, `libopus 1.3.1`."""
    path: str
    """Where it was found."""
    create: Callable[..., int | None]
    destroy: Callable[..., None]
    decode: Callable[..., int]
    control: Callable[..., int]


@functools.cache
def find_libopus() -> LibOpus | None:
    """Load libopus: the system's, else PyAV's; None if there is neither."""
    bundled = Path(av.__file__).parent.parent / "av.libs"
    candidates = [ctypes.util.find_library("opus")]
    candidates += sorted(str(path) for path in bundled.glob("libopus*.so*"))
    for candidate in candidates:
        if candidate is not None:
            found = load_libopus(candidate)
            if found is not None:
                _log.info("decoding with %s (%s)", found.version, found.path)
                return found
    _log.warning("no libopus found: lost packets cannot be concealed")
    return None


def load_libopus(path: str) -> LibOpus | None:
    """Load one library; None if it is not a usable libopus."""
    try:
        library = ctypes.CDLL(path)
        version = library.opus_get_version_string
        create = library.opus_decoder_create
        destroy = library.opus_decoder_destroy
        decode = library.opus_decode_float
        control = library.opus_decoder_ctl
    except (OSError, AttributeError) as exc:
        _log.debug("%s is no usable libopus: %s", path, exc)
        return None
    version.restype = ctypes.c_char_p
    create.restype = ctypes.c_void_p
    create.argtypes = [ctypes.c_int32, ctypes.c_int, ctypes.POINTER(ctypes.c_int)]
    destroy.restype = None
    destroy.argtypes = [ctypes.c_void_p]
    decode.restype = ctypes.c_int
    # The samples go to an address inside an array, without an object in between.
    decode.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int32,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_int,
    ]
    # Variadic: only the arguments that are always there have a type.
    control.restype = ctypes.c_int
    control.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return LibOpus(version().decode(), path, create, destroy, decode, control)


_RESET_STATE = 4028
"""OPUS_RESET_STATE (opus_defines.h)."""


class OpusDecoder:
    """libopus, one state.

    Args:
        library: From `find_libopus`.
        sample_rate: One of `RATES`, Hz.

    Raises:
        ValueError: If libopus does not decode to that rate.
    """

    can_conceal = True

    def __init__(self, library: LibOpus, sample_rate: int) -> None:
        error = ctypes.c_int(0)
        self._library = library
        self._state: int | None = None
        self._out: npt.NDArray[np.float32] | None = None
        self._address = 0
        if sample_rate in RATES:
            self._state = library.create(sample_rate, 1, ctypes.byref(error))
        if self._state is None:
            raise ValueError(f"no Opus decoder for {sample_rate} Hz ({error.value})")

    def __del__(self) -> None:
        self.close()

    def decode(self, payload: bytes, out: npt.NDArray[np.float32], at: int = 0) -> int:
        """See `Decoder`."""
        # Without data libopus would conceal; an empty payload is no lost packet.
        return self._call(payload, out, len(out) - at, at, 0) if payload else -1

    def recover(
        self,
        following: bytes,
        out: npt.NDArray[np.float32],
        samples: int,
        at: int = 0,
    ) -> int:
        """See `Decoder`."""
        return self._call(following, out, samples, at, 1)

    def conceal(self, out: npt.NDArray[np.float32], samples: int, at: int = 0) -> int:
        """See `Decoder`."""
        return self._call(None, out, samples, at, 0)

    def reset(self) -> None:
        """See `Decoder`."""
        if self._state is not None:
            self._library.control(self._state, _RESET_STATE)

    def close(self) -> None:
        """See `Decoder`."""
        state, self._state = self._state, None
        if state is not None:
            self._library.destroy(state)

    def _call(
        self,
        payload: bytes | None,
        out: npt.NDArray[np.float32],
        samples: int,
        at: int,
        fec: int,
    ) -> int:
        if self._state is None or not 0 < samples <= len(out) - at:
            return -1
        if out is not self._out:
            # Asking for an address costs as much as decoding silence does.
            self._out, self._address = out, out.ctypes.data
        size = 0 if payload is None else len(payload)
        return self._library.decode(
            self._state, payload, size, self._address + 4 * at, samples, fec
        )


class AvDecoder:
    """PyAV's decoder and resampler, where no libopus can be loaded.

    The resampler holds back about a millisecond, which is given out as silence at
    the beginning, so that every packet yields exactly its duration.

    Args:
        sample_rate: One of `RATES`, Hz.

    Raises:
        ValueError: If it is another one.
    """

    can_conceal = False

    def __init__(self, sample_rate: int) -> None:
        if sample_rate not in RATES:
            raise ValueError(f"no Opus decoder for {sample_rate} Hz")
        self._rate = sample_rate
        self._ready: list[npt.NDArray[np.float32]] = []
        self.reset()

    def decode(self, payload: bytes, out: npt.NDArray[np.float32], at: int = 0) -> int:
        """See `Decoder`."""
        wanted = read_packet(payload).ticks * self._rate // _RTP_RATE
        if not 0 < wanted <= len(out) - at:
            return -1
        try:
            for frame in self._codec.decode(av.Packet(payload)):
                # Also FFmpeg's own decoder may have made two channels of one.
                for part in self._resampler.resample(frame):
                    self._ready.append(_mean(part))
        except (av.error.FFmpegError, ValueError, AssertionError):
            return -1
        ready = np.concatenate(self._ready)
        if len(ready) < wanted:
            # The decoder dropped something: keep the time.
            ready = np.concatenate([np.zeros(wanted - len(ready), np.float32), ready])
        out[at : at + wanted] = ready[:wanted]
        self._ready = [ready[wanted:]]
        return wanted

    def recover(
        self,
        following: bytes,
        out: npt.NDArray[np.float32],
        samples: int,
        at: int = 0,
    ) -> int:
        """See `Decoder`."""
        return 0

    def conceal(self, out: npt.NDArray[np.float32], samples: int, at: int = 0) -> int:
        """See `Decoder`."""
        return 0

    def reset(self) -> None:
        """See `Decoder`."""
        self._codec = _open_codec()
        self._resampler = av.AudioResampler(
            format="flt", layout="mono", rate=self._rate
        )
        delay = self._rate // 500
        self._ready = [np.zeros(delay, np.float32)]

    def close(self) -> None:
        """See `Decoder`."""
        self._ready = [np.zeros(0, np.float32)]


def _open_codec() -> av.AudioCodecContext:
    for name in ("libopus", "opus"):
        try:
            codec = av.AudioCodecContext.create(name, "r")
        except (av.error.FFmpegError, ValueError):
            continue
        codec.sample_rate = _RTP_RATE
        codec.layout = "mono"
        return codec
    raise ValueError("this PyAV cannot decode Opus")


def _mean(frame: av.AudioFrame) -> npt.NDArray[np.float32]:
    channels = frame.layout.nb_channels
    mixed: npt.NDArray[np.float32] = (
        frame.to_ndarray().reshape(-1, channels).mean(axis=1, dtype=np.float32)
    )
    return mixed


def open_decoder(sample_rate: int) -> Decoder:
    """Open a decoder for one stream, by the best route there is.

    Raises:
        ValueError: If there is none for this rate.
    """
    library = find_libopus()
    if library is None:
        return AvDecoder(sample_rate)
    return OpusDecoder(library, sample_rate)
