# SPDX-License-Identifier: MIT
"""How long the server waits for one client; no clock of its own."""

from __future__ import annotations

from websockets.frames import DATA_OPCODES, Opcode

from .options import Model, Timers

__all__ = ["Limits"]


class Limits:
    """The time limits of one connection.

    Args:
        timers: The server's.
        model: Its configuration; the module has a limit of its own for silence.
        now: Loop time at which the connection was accepted.
    """

    def __init__(self, timers: Timers, model: Model, now: float) -> None:
        pings = 3 if model.module == "PyBatchedAsr" else 2
        self.ping_s = timers.ping_s
        """Seconds without output after which the server pings."""
        self.silent_s = timers.silent_s or pings * timers.ping_s
        """Seconds without any frame after which the client is dropped."""
        self._binary_s = timers.binary_s
        self._last_frame = now
        self._last_binary = now

    @property
    def silent_at(self) -> float:
        """When the client will have been silent for too long."""
        return self._last_frame + self.silent_s

    def frame(self, opcode: Opcode, now: float) -> bool:
        """Note a frame; False if no binary message came for too long before it."""
        self._last_frame = now
        # Source: `recv_loop` looks at the long limit before the message itself.
        if now - self._last_binary > self._binary_s:
            return False
        if opcode in DATA_OPCODES and opcode is not Opcode.TEXT:
            self._last_binary = now
        return True
