# SPDX-License-Identifier: MIT
"""What a gateway's errors and close codes mean for the session.

Source: decisions.md (codes of protocol 1), modal-serving.md section 4 (what the
Modal edge shows), kyutai-stt.md 2.1 (generation 3 closes with 1000 whatever
happened).
"""

from __future__ import annotations

from ...errors import (
    CapacityError,
    ConnectFailed,
    ConnectionLost,
    KyutaiStreamError,
    ProtocolError,
)
from ...wire import gateway
from .._websocket import Ended

__all__ = ["close_error", "message_error"]

FULL = (1013, 4503)
"""Close codes that mean that there is no free place."""

UNREADABLE = (1003, 1007)
"""Close codes that mean that our audio was not understood."""

NOTHING_SAID = (1000, 1005)
"""Codes with which older gateways end for any reason, a full server included."""

FRESH_S = 15.0
"""An older gateway that ends so soon, and without a word, had no place for us."""


def close_error(end: Ended, *, established: bool, fresh_s: float) -> KyutaiStreamError:
    """The error for the end of a connection.

    Args:
        end: Its end.
        established: Whether the session had begun to work with it.
        fresh_s: Age of a connection that has told no word, seconds; else infinite.
    """
    if end.by_us is not None:
        return end.as_error()
    said = f"the gateway closed the connection (code {end.code})"
    if end.code in FULL:
        return CapacityError(f"{said}: it is full")
    if end.code in UNREADABLE:
        return ProtocolError(f"{said}: it did not understand our audio")
    if end.code in NOTHING_SAID and fresh_s <= FRESH_S:
        return CapacityError(f"{said} before the first word: it may be full")
    if established:
        return ConnectionLost(said)
    if end.code == 1011:
        return ConnectFailed(f"{said} before it was ready")
    return CapacityError(f"{said} before it was ready")


def message_error(error: gateway.Error, *, established: bool) -> KyutaiStreamError:
    """The error for an `error` message.

    Args:
        error: The message; its text comes from the server and is shown only before
            anybody spoke.
        established: Whether the session had begun to work with it.
    """
    what = error.code or "an error"
    if not established:
        what += f": {error.message[:120]!r}" if error.message else ""
        if error.code in ("capacity", "draining"):
            return CapacityError(f"the gateway reports {what}")
        if error.retryable:
            return ConnectFailed(f"the gateway reports {what}")
    if error.code == "capacity":
        return CapacityError("the gateway reports that it is full")
    if "PCM16" in error.message:
        # Generation 1 says so for every message of another form.
        return ProtocolError("the gateway wants PCM16: set dialect='gen1'")
    if error.retryable and error.code != "bad_audio":
        return ConnectionLost(f"the gateway reports {what}")
    return ProtocolError(f"the gateway reports {what}")
