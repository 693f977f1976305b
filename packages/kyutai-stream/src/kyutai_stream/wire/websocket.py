# SPDX-License-Identifier: MIT
"""Whole binary frames of a websocket (RFC 6455), cut out of what TCP brings. No I/O.

A speech connection carries one small binary frame in each direction every 80 ms. A
library takes several task switches and generators for each; here such a frame costs a
few slices. All the rest (handshake, text, fragments, pings, closes, every violation)
is left to the library, byte for byte and in order, so nothing of the protocol is
written twice.
"""

from __future__ import annotations

import os
import struct

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiler where websockets was built
    from websockets.utils import apply_mask

__all__ = ["FrameSplitter", "frame"]

BINARY, TEXT, CONTINUATION = 0x2, 0x1, 0x0
FINAL = 0x80
MASKED = 0x80
WHOLE_BINARY = FINAL | BINARY
OPCODES = (CONTINUATION, TEXT, BINARY, 0x8, 0x9, 0xA)
KNOWN = frozenset(bit | opcode for bit in (0, FINAL) for opcode in OPCODES)
"""What the first byte of a frame may be."""

SHORT_HEAD = struct.Struct(">BB")
LONG_HEAD = struct.Struct(">BBH")
HUGE_HEAD = struct.Struct(">BBQ")


def frame(payload: bytes, *, opcode: int = BINARY, masked: bool) -> bytes:
    """Build a whole, unfragmented frame.

    Args:
        payload: The message.
        opcode: `BINARY` or `TEXT`.
        masked: What a client must do and a server must not.
    """
    length, bit = len(payload), MASKED if masked else 0
    if length < 126:
        head = SHORT_HEAD.pack(FINAL | opcode, bit | length)
    elif length < 65_536:
        head = LONG_HEAD.pack(FINAL | opcode, bit | 126, length)
    else:
        head = HUGE_HEAD.pack(FINAL | opcode, bit | 127, length)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return b"".join((head, key, apply_mask(payload, key)))


class FrameSplitter:
    """Cuts a stream of bytes into frames.

    Only whole frames come out. After something that no peer should send, everything
    comes out as it came in: the library is to judge it.

    Args:
        masked: Whether the peer is a client.
        longest: Bytes of payload that a frame may have; a longer one is not waited
            for but left to the library.
    """

    def __init__(self, *, masked: bool, longest: int) -> None:
        self._mask_bit = MASKED if masked else 0
        self._longest = longest
        self._rest = bytearray()
        self._wanted = 0
        self._fragmented = False
        self._given_up = False

    def feed(self, data: bytes) -> list[tuple[bool, bytes]]:
        """Take bytes of the peer.

        Returns:
            In order, `(True, message)` for a binary message in one frame, and
            `(False, bytes)` for what the library is to read.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return []
            data, self._rest = bytes(self._rest), bytearray()
        pieces: list[tuple[bool, bytes]] = []
        at, size = 0, len(data)
        while at < size:
            begin, end = self._payload(data, at)
            if end > size:
                self._rest += data[at:]
                # Not looked at before: long frames come in many small pieces.
                self._wanted = end - at
                break
            if data[at] != WHOLE_BINARY or self._fragmented or self._given_up:
                self._pass(data[at])
                pieces.append((False, data[at:end]))
            elif self._mask_bit:
                key = data[begin - 4 : begin]
                pieces.append((True, apply_mask(data[begin:end], key)))
            else:
                pieces.append((True, data[begin:end]))
            at = end
        return pieces

    def _payload(self, data: bytes, at: int) -> tuple[int, int]:
        """Where the payload of the frame at `at` begins and ends.

        While that is not known, it ends behind the data.
        """
        size, begin = len(data), at + 2
        if self._given_up:
            return at, size
        if begin > size:
            return at, size + 1
        length = data[at + 1] & 0x7F
        if length >= 126:
            begin += 2 if length == 126 else 8
            if begin > size:
                return at, size + 1
            length = int.from_bytes(data[at + 2 : begin], "big")
        if (
            data[at] not in KNOWN
            or data[at + 1] & MASKED != self._mask_bit
            or length > self._longest
        ):
            self._given_up = True
            return at, size
        if self._mask_bit:
            begin += 4
        return begin, begin + length

    def _pass(self, first: int) -> None:
        """Note a frame that the library gets, by its first byte."""
        opcode = first & 0x0F
        if opcode in (TEXT, BINARY):
            self._fragmented = not first & FINAL
        elif opcode == CONTINUATION and first & FINAL:
            self._fragmented = False
