# SPDX-License-Identifier: MIT
"""Timings, limits and fault knobs of the embedded server."""

from __future__ import annotations

from attrs import frozen

__all__ = ["VERSION", "HpbOptions"]

VERSION = "2.0.2-embedded"
"""What `welcome`, `hello` and `/api/v1/welcome` report."""


@frozen(kw_only=True)
class HpbOptions:
    """Every timing and limit of `EmbeddedHpb`, so that tests can shorten them.

    The defaults are those of HPB 2.0.2. All times are seconds.

    Source:
        Measured with HPB 2.0.2 and read in its documentation
        (`docs/standalone-signaling-api-v1.md`).
    """

    hello_timeout_s: float = 2.0
    """A socket must send a hello within this time, also after a failed one."""
    join_timeout_s: float = 10.0
    """A user session without user id must join a room within this time."""
    resume_window_s: float = 30.0
    """How long a session outlives its socket."""
    publisher_wait_s: float = 10.0
    """How long `requestoffer` waits for a publisher and its media."""
    room_ping_s: float = 10.0
    """Interval of the pings that tell Nextcloud who is alive."""
    backend_timeout_s: float = 10.0
    """Limit of every request to Nextcloud."""
    throttle_first_s: float = 0.1
    """Delay of the first failed attempt; doubles with each further one."""
    throttle_cap_s: float = 25.0
    """Longest delay of a failed attempt."""
    throttle_failures: int = 10
    """Failures within the window after which attempts are refused."""
    throttle_window_s: float = 1800.0
    """How long failed attempts count."""
    max_message_bytes: int = 64 * 1024
    """Larger client messages close the socket with code 1009."""
    max_room_request_bytes: int = 256 * 1024
    """Larger room API requests are answered with 413."""
    max_queued_messages: int = 10_000
    """Messages kept for one socket or session. A socket that exceeds it is cut;
    a session without socket ends. (The real server's queue is unbounded.)"""
