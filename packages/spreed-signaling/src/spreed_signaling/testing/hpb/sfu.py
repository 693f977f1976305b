# SPDX-License-Identifier: MIT
"""The media server: publishers, subscribers, and who gets whose packets.

Encoded media is passed on as it came; nothing is decoded. This module needs
aiortc and is imported when the first media message arrives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
from aiortc.exceptions import (
    InternalError,
    InvalidAccessError,
    InvalidStateError,
    OperationError,
)
from attrs import define, field

from .sfu_peers import Description, PublisherPeer, SubscriberPeer

__all__ = ["MediaFailure", "NoClient", "Sfu"]

logger = logging.getLogger("spreed_signaling.testing.hpb")

_CLOSE_LIMIT_S = 1.0
"""Limit for closing a connection, seconds; it takes milliseconds."""

_REFUSALS = (
    ValueError,
    AssertionError,
    AttributeError,
    InternalError,
    InvalidAccessError,
    InvalidStateError,
    OperationError,
)
"""What aiortc raises for descriptions that it cannot use."""

UpdateHandler = Callable[[str, str, str, Description], None]


class NoClient(Exception):
    """There is no publisher or subscriber for a message."""


class MediaFailure(Exception):
    """The media server could not do what was asked."""


@define
class _Subscription:
    """A subscription exists from the first request on, with or without a peer."""

    peer: SubscriberPeer | None = None
    lock: anyio.Lock = field(factory=anyio.Lock)


class Sfu:
    """All media connections of one server.

    Args:
        spawn: Runs `function(*args)` in the background.
        on_update: Called with subscriber, publisher, room type and offer when a
            publisher renegotiated.
        lose: See `PublisherPeer`.
    """

    def __init__(
        self,
        *,
        spawn: Callable[..., None],
        on_update: UpdateHandler,
        lose: Callable[[int], bool],
    ) -> None:
        self._spawn = spawn
        self._on_update = on_update
        self._lose = lose
        self._publishers: dict[tuple[str, str], PublisherPeer] = {}
        self._subscriptions: dict[tuple[str, str, str], _Subscription] = {}
        self._changed = anyio.Event()

    def published(self, session_id: str) -> tuple[str, ...]:
        """Return the room types that a session publishes with living media."""
        return tuple(
            room_type
            for (owner, room_type), peer in self._publishers.items()
            if owner == session_id and peer.feeding
        )

    def subscribed(self, session_id: str) -> tuple[str, ...]:
        """Return the session ids whose media a session subscribed to."""
        return tuple(
            publisher
            for (owner, publisher, _), item in self._subscriptions.items()
            if owner == session_id and item.peer is not None
        )

    def has_client(self, session_id: str, publisher_id: str, room_type: str) -> bool:
        """Return whether a session publishes this, or subscribed to it."""
        if session_id == publisher_id:
            return (session_id, room_type) in self._publishers
        return (session_id, publisher_id, room_type) in self._subscriptions

    async def publish(
        self, session_id: str, room_type: str, sid: str, sdp: str
    ) -> Description:
        """Answer a publisher's offer.

        An offer on a living connection renegotiates it and keeps its `sid`; the
        subscribers then get an unsolicited offer.

        Raises:
            MediaFailure: If the offer cannot be used.
        """
        key = (session_id, room_type)
        peer = self._publishers.get(key)
        renewed = peer is not None and peer.feeding
        if peer is None or not peer.feeding:
            if peer is not None:
                self._spawn(_close, peer)
            peer = PublisherPeer(sid, self._notify, self._lose)
            self._publishers[key] = peer
        try:
            answer = await peer.answer(sdp)
        except _REFUSALS as exc:
            if not renewed:
                self._publishers.pop(key, None)
                await peer.close()
            raise MediaFailure(f"offer refused: {exc!r}") from exc
        if renewed:
            await self._update_subscribers(session_id, room_type, peer)
        self._notify()
        return answer

    async def subscribe(
        self,
        session_id: str,
        publisher_id: str,
        room_type: str,
        *,
        sid: str | None,
        wait_s: float,
        alive: Callable[[], bool],
    ) -> Description | None:
        """Make an offer for a subscriber, waiting for the publisher if need be.

        Args:
            session_id: The subscriber.
            publisher_id: Whose media.
            room_type: `video` or `screen`.
            sid: The running subscription's id to update it; anything else
                replaces it.
            wait_s: Limit for publisher and media together.
            alive: Asked after waiting; a subscriber that left gets nothing.

        Returns:
            The offer, None if the subscriber left meanwhile.

        Raises:
            NoClient: If no publisher appeared.
            MediaFailure: If the publisher has no media.
        """
        key = (session_id, publisher_id, room_type)
        source = (publisher_id, room_type)
        known = key in self._subscriptions
        with anyio.move_on_after(wait_s):
            if not known:
                await self._until(lambda: source in self._publishers)
            await self._until(
                lambda: source in self._publishers and self._publishers[source].feeding
            )
        publisher = self._publishers.get(source)
        if publisher is None and not known:
            raise NoClient
        if not alive():
            return None
        subscription = self._subscriptions.setdefault(key, _Subscription())
        if publisher is None or not publisher.feeding:
            raise MediaFailure("the publisher has no media")
        async with subscription.lock:
            return await self._offer(subscription, publisher, sid)

    async def _offer(
        self, subscription: _Subscription, publisher: PublisherPeer, sid: str | None
    ) -> Description:
        old = subscription.peer
        try:
            if old is not None and old.alive and sid == old.sid:
                return await old.offer(publisher.kinds)
            if old is not None:
                subscription.peer = None
                self._spawn(_close, old)
            peer = subscription.peer = SubscriberPeer(publisher)
            return await peer.offer(publisher.kinds)
        except _REFUSALS as exc:
            raise MediaFailure(f"no offer possible: {exc!r}") from exc

    async def accept(
        self, session_id: str, publisher_id: str, room_type: str, sid: str, sdp: str
    ) -> None:
        """Apply a subscriber's answer.

        Raises:
            NoClient: If there is no such subscription.
            MediaFailure: If `sid` or the answer do not fit the offer.
        """
        peer = self._subscriber(session_id, publisher_id, room_type, sid)
        try:
            await peer.accept(sdp)
        except _REFUSALS as exc:
            raise MediaFailure(f"answer refused: {exc!r}") from exc

    async def add_candidate(
        self,
        session_id: str,
        publisher_id: str,
        room_type: str,
        sid: str,
        value: dict[str, Any],
    ) -> None:
        """Add a client's candidate to its own publisher or to a subscription.

        Raises:
            NoClient: If there is no such connection.
            MediaFailure: If `sid` or the candidate do not fit.
        """
        peer: PublisherPeer | SubscriberPeer | None
        if session_id == publisher_id:
            peer = self._publishers.get((session_id, room_type))
            if peer is None:
                raise NoClient
        else:
            peer = self._subscriber(session_id, publisher_id, room_type, sid)
        try:
            await peer.add_candidate(value)
        except _REFUSALS as exc:
            raise MediaFailure(f"candidate refused: {exc!r}") from exc

    def select(
        self,
        session_id: str,
        publisher_id: str,
        room_type: str,
        wanted: dict[str, bool],
    ) -> None:
        """Switch kinds of media of a subscription on or off.

        Raises:
            NoClient: If there is no such subscription.
        """
        peer = self._subscriber(session_id, publisher_id, room_type, "")
        for kind, enabled in wanted.items():
            peer.select(kind, enabled)

    def close_session(self, session_id: str) -> None:
        """Close everything that a session publishes and subscribes to."""
        for source in [key for key in self._publishers if key[0] == session_id]:
            self._spawn(_close, self._publishers.pop(source))
        for target in [key for key in self._subscriptions if key[0] == session_id]:
            peer = self._subscriptions.pop(target).peer
            if peer is not None:
                self._spawn(_close, peer)

    def close_publisher(self, session_id: str, room_type: str) -> None:
        """Close one stream of a session."""
        peer = self._publishers.pop((session_id, room_type), None)
        if peer is not None:
            self._spawn(_close, peer)

    async def aclose(self) -> None:
        """Close all connections, within a second; never raises."""
        peers: list[PublisherPeer | SubscriberPeer] = [
            item.peer for item in self._subscriptions.values() if item.peer
        ]
        peers += self._publishers.values()
        self._publishers.clear()
        self._subscriptions.clear()
        async with anyio.create_task_group() as tasks:
            for peer in peers:
                tasks.start_soon(_close, peer)

    def _subscriber(
        self, session_id: str, publisher_id: str, room_type: str, sid: str
    ) -> SubscriberPeer:
        item = self._subscriptions.get((session_id, publisher_id, room_type))
        if item is None or item.peer is None:
            raise NoClient
        if sid and sid != item.peer.sid:
            raise MediaFailure("wrong sid")
        return item.peer

    async def _update_subscribers(
        self, publisher_id: str, room_type: str, publisher: PublisherPeer
    ) -> None:
        for (owner, source, kind), item in list(self._subscriptions.items()):
            if (source, kind) != (publisher_id, room_type) or item.peer is None:
                continue
            async with item.lock:
                if item.peer.alive and item.peer.publisher is publisher:
                    offer = await item.peer.offer(publisher.kinds)
                    self._on_update(owner, publisher_id, room_type, offer)

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()


async def _close(peer: PublisherPeer | SubscriberPeer) -> None:
    # Shielded, because aiortc does not survive a close that was cut short.
    with anyio.move_on_after(_CLOSE_LIMIT_S, shield=True):
        try:
            await peer.close()
        except Exception:
            logger.exception("closing a media connection failed")
