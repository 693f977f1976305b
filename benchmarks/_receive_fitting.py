# SPDX-License-Identifier: MIT
"""A listener's subscription changed for a benchmark: packets lost, aiortc's own way.

Signaling and negotiation stay those of the library. Packets are lost right in front
of what is compared: between aiortc's transport and our receiver, or between the
transport and aiortc's jitter buffer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import anyio
import av
from aiortc import RTCRtpReceiver
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from anyio.abc import TaskGroup

from spreed_signaling.media import Call, Speaker
from spreed_signaling.media.links import SubscriberLink
from spreed_signaling.media.peer import SubscriberPeer

__all__ = ["Keep", "TakeFrame", "fit"]

Keep = Callable[[bytes], bool]
"""Whether the packet with this payload arrives."""

TakeFrame = Callable[[av.AudioFrame], None]
"""Takes what aiortc decoded."""


def fit(
    call: Call, speaker: Speaker, keep: Keep, take_frame: TakeFrame | None = None
) -> None:
    """Change the subscription that `speaker.audio()` will open.

    Args:
        call: The speaker's.
        speaker: Nobody listens yet.
        keep: Called with the payload of every packet, in the order of arrival.
        take_frame: Gets what comes out of aiortc's jitter buffer and decoder;
            `speaker.audio()` then yields nothing. None is our own receiver.
    """
    listen = speaker._on_listen

    def listen_and_fit(one: Speaker) -> None:
        listen(one)
        _fit_link(call._links[one.session_id], keep, take_frame)

    speaker._on_listen = listen_and_fit


def _fit_link(link: SubscriberLink, keep: Keep, take_frame: TakeFrame | None) -> None:
    open_peer = link._open_peer

    def open_and_fit(sid: str, tasks: TaskGroup) -> None:
        open_peer(sid, tasks)
        peer = link._peer
        assert peer is not None, "opened right above"
        tap = _tap_some if take_frame is None else _tap_none
        change(peer, "tap", functools.partial(tap, peer, peer.tap, keep))

    change(link, "_open_peer", open_and_fit)
    if take_frame is not None:
        change(link, "_hear", functools.partial(_hear_stock, link, take_frame))


def change(owner: object, name: str, method: Callable[..., Any]) -> None:
    """Give one object another method."""
    setattr(owner, name, method)


def _tap_some(
    peer: SubscriberPeer,
    tap: Callable[..., bool],
    keep: Keep,
    track: MediaStreamTrack,
    handler: Callable[[Any], None],
    *rest: Any,
) -> bool:
    def take(packet: Any) -> None:
        if keep(packet.payload):
            handler(packet)

    return tap(track, take, *rest)


def _tap_none(
    peer: SubscriberPeer,
    tap: Callable[..., bool],
    keep: Keep,
    track: MediaStreamTrack,
    *rest: Any,
) -> bool:
    receivers: list[RTCRtpReceiver] = peer._pc.getReceivers()
    receiver = next(one for one in receivers if one.track is track)
    handle = receiver._handle_rtp_packet

    async def handle_some(packet: Any, arrival_time_ms: int) -> None:
        if keep(packet.payload):
            await handle(packet, arrival_time_ms=arrival_time_ms)

    change(receiver, "_handle_rtp_packet", handle_some)
    return False


async def _hear_stock(
    link: SubscriberLink,
    take_frame: TakeFrame,
    track: MediaStreamTrack,
    sid: str,
    scope: anyio.CancelScope,
    *rest: Any,
) -> None:
    try:
        with scope:
            while True:
                frame = await track.recv()
                assert isinstance(frame, av.AudioFrame), "remote tracks are decoded"
                link._core.media_arrived(anyio.current_time())
                take_frame(frame)
    except MediaStreamError:
        return
