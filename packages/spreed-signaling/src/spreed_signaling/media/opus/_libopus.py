# SPDX-License-Identifier: MIT
"""libopus through ctypes: the system's, or the one inside the PyAV wheel."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import logging
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from attrs import frozen

from ._contract import RATES

__all__ = ["LibOpus", "OpusDecoder", "find_libopus", "load_libopus"]

_log = logging.getLogger("spreed_signaling.media")

_RESET_STATE = 4028
"""OPUS_RESET_STATE (opus_defines.h)."""


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
