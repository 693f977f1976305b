# SPDX-License-Identifier: AGPL-3.0-or-later
"""Being in one room: a signaling client whenever the gate lets us have one."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeGuard

import anyio
from attrs import define, field

from spreed_signaling import (
    Client,
    ClientOptions,
    Disconnected,
    HelloRefused,
    InCallFlags,
    InternalAuth,
    Phase,
    Room,
    SessionEvent,
    SessionStarted,
    TransportOptions,
    connect,
)

from .config import Settings
from .gate import Gate, Visitor

__all__ = ["Presence"]


@define(eq=False)
class _Visit:
    """One client's life."""

    client: Client
    over: anyio.Event = field(factory=anyio.Event)
    sent_away: bool = False

    def send_away(self) -> None:
        self.sent_away = True
        self.over.set()


class Presence:
    """Keeps us in a room; a client that is refused ends, so that none hammers.

    Args:
        room_token: Talk's conversation token.
        settings: Where the server is and who we are.
        gate: Shared by all rooms.
        on_event: Gets every event; must not block. What it raises ends `keep`.
        in_room: Runs beside each client, from before it has joined.
    """

    def __init__(
        self,
        room_token: str,
        settings: Settings,
        gate: Gate,
        *,
        on_event: Callable[[SessionEvent], None],
        in_room: Callable[[Room], Coroutine[Any, Any, None]],
    ) -> None:
        self._room_token = room_token
        self._settings = settings
        self._gate = gate
        self._on_event = on_event
        self._in_room = in_room
        self._visitor = Visitor(hurry=self._hurry)
        self._client: Client | None = None
        self._joined_once = False
        self.room: Room | None = None
        """The room; None while there is no client."""

    @property
    def joined(self) -> bool:
        """Whether we are in the room right now."""
        return self.room is not None and self.room.joined

    def retry_now(self) -> None:
        """A person asked: skip the pause, as far as that is safe."""
        if not self.joined:
            self._gate.press()
            self._hurry()

    async def keep(self) -> None:
        """Be in the room until the session is over for good.

        One call at a time. When cancelled it leaves the room and says goodbye,
        which takes seconds at most.

        Raises:
            SignalingError: What `on_event` raised, possibly in a group.
        """
        while True:
            await self._gate.wait_turn(self._visitor)
            try:
                if not await self._visit():
                    return
            finally:
                self._gate.leave(self._visitor)

    async def _visit(self) -> bool:
        """Have one client; tell whether the gate sent it away."""
        settings = self._settings
        auth = InternalAuth(
            secret=settings.internal_secret, backend_url=settings.backend_url or ""
        )
        options = ClientOptions(transport=TransportOptions(ssl=_ssl(settings)))
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                connect(settings.hpb_url or "", auth, options=options, wait_s=None)
            )
            # Before joining, so that nobody is missed.
            events = stack.enter_context(client.subscribe())
            room = await stack.enter_async_context(
                client.join(self._room_token, in_call=InCallFlags.IN_CALL, wait_s=None)
            )
            visit = _Visit(client)
            self._client, self.room = client, room
            stack.callback(self._forget)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, events, visit)
                tasks.start_soon(self._mind_gate, visit)
                tasks.start_soon(self._in_room, room)
                await visit.over.wait()
                tasks.cancel_scope.cancel()
        return visit.sent_away

    def _forget(self) -> None:
        self._client = self.room = None

    async def _watch(self, events: Any, visit: _Visit) -> None:
        async for event in events:
            self._note(event, visit)
            self._on_event(event)
            self._joined_once = self._joined_once or self.joined
        visit.over.set()

    def _note(self, event: SessionEvent, visit: _Visit) -> None:
        match event:
            case SessionStarted():
                self._gate.accepted()
            case Disconnected(error=error):
                if _for_all(error):
                    self._gate.refused(self._visitor, error)
                else:
                    self._gate.failed(self._visitor, str(error))
                if not self._gate.may_stay(self._visitor):
                    visit.send_away()

    async def _mind_gate(self, visit: _Visit) -> None:
        """End a client that only waits for its next attempt when the gate closes."""
        while True:
            # An open session stays; a hello under way brings an event.
            pausing = visit.client.status().phase is Phase.DISCONNECTED
            if pausing and not self._gate.may_stay(self._visitor):
                visit.send_away()
            await self._gate.wait_change()

    def _hurry(self) -> None:
        if self._client is None:
            return
        if not _for_all(self._client.status().error):
            self._client.retry_now()

    def describe(self) -> tuple[str, str]:
        """The state in one or two words, and why."""
        if self._client is None:
            return self._gate.describe()
        if self.joined:
            return "in call", ""
        status = self._client.status()
        if status.error is None or _for_all(status.error):
            state, detail = self._gate.describe()
        else:
            state, detail = "connecting", str(status.error)
            if status.retry_at is not None:
                wait_s = max(0.0, status.retry_at - anyio.current_time())
                detail += f"; next attempt in {wait_s:.0f} s"
            if not status.error.retryable:
                state = "refused"
        if status.phase is Phase.FINISHED and state != "refused":
            return "failed", detail
        if state == "connecting" and self._joined_once:
            state = "reconnecting"
        return state, detail


def _for_all(error: Exception | None) -> TypeGuard[HelloRefused]:
    """Whether every room would get this refusal, for longer than a moment."""
    return isinstance(error, HelloRefused) and not error.retryable


def _ssl(settings: Settings) -> ssl.SSLContext | None:
    if not settings.skip_cert_verify or not (settings.hpb_url or "").startswith(
        "https"
    ):
        return None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
