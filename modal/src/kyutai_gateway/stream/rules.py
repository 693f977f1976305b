# SPDX-License-Identifier: MIT
"""The numbers that a stream goes by, in one place."""

from __future__ import annotations

import math

from attrs import frozen

__all__ = ["StreamRules"]


@frozen(kw_only=True)
class StreamRules:
    """Times in seconds, infinite for never."""

    ping_s: float = 10.0
    """Between two `ping` messages (decisions.md)."""
    idle_timeout_s: float = 60.0
    """Without a binary message of the client, an empty one included, for so long the
    stream ends with `idle_timeout`."""
    quiet_timeout_s: float = 1800.0
    """The same without speech: neither a loud frame nor a word."""
    max_stream_s: float = math.inf
    """Age at which the stream is asked to reconnect: the platform's limit - 60 s."""
    rotation_notice_s: float = 30.0
    """Time between that and the close."""
    flush_s: float = 3.0
    """Of that notice (and of a drain), the part kept for bringing the last words out;
    the client's audio is not taken any more."""
    wedged_s: float = 8.0
    """Audio that is owed a step gets none for so long: the model loop is dead. Less
    than the 10 s after which `kyutai_stream` gives the connection up."""
    ready_wait_s: float = 120.0
    """Longest that a client waits for a model server that is starting."""
    warm_wait_s: float = 100.0
    """Longest that `GET /v1/warm` waits; Modal redirects requests after 150 s."""
    send_timeout_s: float = 15.0
    """Longest that one message waits for a client that does not read."""
    words_follow_s: float = 0.05
    """The words of a step come as messages of their own, after it; TCP may hold them
    back 40 ms. A pause is told when they have had this time."""
    window_frames: int = 25
    """Most frames sent upstream and not processed."""
    speed: float = 3.0
    """Most times real time that audio goes upstream where nothing is acknowledged."""
    queue_frames: int = 125
    """Received frames (10 s) after which the client's socket is not read any more,
    until they have gone upstream; one message may exceed it."""
    outbox_messages: int = 64
    """Messages waiting for the client after which neither side is read."""
    max_message_bytes: int = 2 * 1024 * 1024
    """Longest message of a client (Modal's own limit)."""
