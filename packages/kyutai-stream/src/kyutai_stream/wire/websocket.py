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

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiler where websockets was built
    from websockets.utils import apply_mask

__all__ = ["FrameSplitter", "frame"]

BINARY, TEXT, CONTINUATION = 0x2, 0x1, 0x0
FINAL = 0x80
MASKED = 0x80
KNOWN_OPCODES = frozenset({CONTINUATION, TEXT, BINARY, 0x8, 0x9, 0xA})


def frame(payload: bytes, *, opcode: int = BINARY, masked: bool) -> bytes:
    """Build a whole, unfragmented frame.

    Args:
        payload: The message.
        opcode: `BINARY` or `TEXT`.
        masked: What a client must do and a server must not.
    """
    length, bit = len(payload), MASKED if masked else 0
    if length < 126:
        head = bytes((FINAL | opcode, bit | length))
    elif length < 65_536:
        head = bytes((FINAL | opcode, bit | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((FINAL | opcode, bit | 127)) + length.to_bytes(8, "big")
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
        self._masked = masked
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
        at = 0
        while at < len(data):
            end = len(data) if self._given_up else self._end(data, at)
            if end is None or end > len(data):
                self._rest += data[at:]
                # Not looked at before: long frames come in many small pieces.
                self._wanted = end - at if end else len(self._rest) + 1
                break
            pieces.append(self._piece(data, at, end))
            at = end
        return pieces

    def _end(self, data: bytes, at: int) -> int | None:
        """Where the frame that begins at `at` ends; None if that is not known yet."""
        if len(data) - at < 2:
            return None
        first, second = data[at], data[at + 1]
        length, head = second & 0x7F, 2
        if length >= 126:
            head = 4 if length == 126 else 10
            if len(data) - at < head:
                return None
            length = int.from_bytes(data[at + 2 : at + head], "big")
        if (
            first & 0x70
            or first & 0x0F not in KNOWN_OPCODES
            or bool(second & MASKED) is not self._masked
            or length > self._longest
        ):
            self._given_up = True
            return len(data)
        return at + head + (4 if self._masked else 0) + length

    def _piece(self, data: bytes, at: int, end: int) -> tuple[bool, bytes]:
        first = data[at]
        if first == FINAL | BINARY and not self._fragmented and not self._given_up:
            length = data[at + 1] & 0x7F
            begin = at + (2 if length < 126 else 4 if length == 126 else 10)
            if not self._masked:
                return True, data[begin:end]
            key = data[begin : begin + 4]
            return True, apply_mask(data[begin + 4 : end], key)
        opcode = first & 0x0F
        if opcode in (TEXT, BINARY):
            self._fragmented = not first & FINAL
        elif opcode == CONTINUATION and first & FINAL:
            self._fragmented = False
        return False, data[at:end]
