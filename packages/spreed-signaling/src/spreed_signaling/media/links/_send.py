# SPDX-License-Identifier: MIT
"""How a link reaches the server."""

from __future__ import annotations

from collections.abc import Callable

from ...protocol.negotiation import MediaSignal

__all__ = ["SendFunction"]

SendFunction = Callable[[MediaSignal], str]
"""Sends a signal to the stream's publisher and returns the request id."""
