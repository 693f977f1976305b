# SPDX-License-Identifier: AGPL-3.0-or-later
"""All calls of this process, by room.

The methods that Talk's requests reach never wait: Talk gives three seconds in all,
and joining a call may take minutes. They note what is wanted; tasks do the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from kyutai_stream import Backend
from spreed_signaling import IceServer, SignalingError
from spreed_signaling.protocol.backoff import retry_delays

from .call import LiveCall
from .config import Settings
from .gate import Gate
from .intent import CallIntent
from .languages import supported
from .recogniser import Recogniser
from .services import CallServices
from .waking import Waker

__all__ = ["CaptionsRefused", "Supervisor"]

_log = logging.getLogger(__name__)

_KEPT_S = 600.0
"""How long a call that failed stays in the status, waiting for somebody to ask."""


class CaptionsRefused(Exception):
    """Captions cannot start: something is not configured, or there is no room."""


@define(eq=False)
class _Entry:
    """One room's call, and its successor after a failure."""

    call: LiveCall
    failed: bool = False
    again: anyio.Event = field(factory=anyio.Event)
    """Somebody asked: start it again now."""
    done: anyio.Event = field(factory=anyio.Event)
    foreign: str | None = None
    """A language the log was told of: stored for the room and not supported."""


class Supervisor:
    """Starts, keeps and ends calls.

    Args:
        settings: What the administrator set.
        tasks: Where the calls run.
        ice_servers: See `CallServices.ice_servers`.
        backend: The recogniser, for tests; None loads the configured one.
        gate: Other rules than the usual ones, for tests.
    """

    def __init__(
        self,
        settings: Settings,
        tasks: TaskGroup,
        *,
        ice_servers: Callable[[], Awaitable[tuple[IceServer, ...]]],
        backend: Backend | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._settings = settings
        self._tasks = tasks
        self._ice_servers = ice_servers
        self._recogniser = Recogniser(settings, backend)
        self._waker = Waker(tasks)
        self._places = anyio.CapacityLimiter(settings.max_speakers)
        self._entries: dict[str, _Entry] = {}
        self._leaving: set[_Entry] = set()
        self._gate = Gate() if gate is None else gate
        self._accepting = True
        self._told_refusal = ""

    # Requests. Never wait.

    def enable(self, room_token: str, nc_session_id: str, lang_id: str | None) -> None:
        """Somebody switched captions on.

        Args:
            room_token: Talk's conversation token.
            nc_session_id: Who.
            lang_id: The language stored for the room, if there is one; one that
                is not supported falls back to the default.

        Raises:
            CaptionsRefused: If something is not configured, or no more rooms are
                taken.
        """
        language = lang_id or self._settings.default_language
        if not supported(language):
            # It may be stored since another app served this room.
            language = self._settings.default_language
        entry = self._entries.get(room_token)
        if entry is None or entry.call.ending:
            try:
                entry = self._start(room_token, nc_session_id, language)
            except CaptionsRefused as exc:
                self._tell_refusal(room_token, str(exc))
                raise
            self._told_refusal = ""
            self._gate.press()
            self._tell_language(entry, lang_id)
            return
        self._tell_language(entry, lang_id)
        entry.call.add_reader(nc_session_id)
        if lang_id is not None:
            entry.call.set_language(language)
        if entry.failed:
            entry.again.set()
            self._waker.wake(self._recogniser.load())
        entry.call.retry_now()

    def disable(self, room_token: str, nc_session_id: str) -> None:
        """Somebody switched captions off; unknown ones are ignored."""
        entry = self._entries.get(room_token)
        if entry is None:
            return
        entry.call.remove_reader(nc_session_id)
        if entry.failed and not entry.call.intent().readers:
            self.leave(room_token)

    def leave(self, room_token: str, reason: str = "told to leave") -> None:
        """Leave a room's call; unknown ones are ignored."""
        entry = self._entries.pop(room_token, None)
        if entry is not None:
            self._leaving.add(entry)
            entry.call.end(reason)
            entry.again.set()

    def set_language(self, room_token: str, lang_id: str) -> bool:
        """Change a room's language; False if it has no captions."""
        entry = self._entries.get(room_token)
        if entry is None or entry.call.ending:
            return False
        entry.call.set_language(lang_id)
        return True

    def accept(self) -> None:
        """Take calls again after `close`."""
        self._accepting = True

    def status(self) -> dict[str, Any]:
        """Return how everything is doing, in plain words."""
        return {
            "problems": self._problems(),
            "backend": self._recogniser.status(),
            "speakers": {
                "transcribed": self._places.borrowed_tokens,
                "waiting": self._places.statistics().tasks_waiting,
                "limit": self._settings.max_speakers,
            },
            "rooms": [self._describe(entry) for entry in self._entries.values()],
        }

    # Ends.

    async def close(self, limit_s: float = 8.0) -> None:
        """Leave every room, bringing out the last words; takes no new calls.

        Bounded by `limit_s`; calls that need longer are left to the end of the
        task group.
        """
        self._accepting = False
        for room_token in list(self._entries):
            self.leave(room_token, "the app is being switched off")
        with anyio.move_on_after(limit_s):
            for entry in list(self._leaving):
                await entry.done.wait()

    # Helpers.

    def _start(self, room_token: str, nc_session_id: str, lang_id: str) -> _Entry:
        services = CallServices(
            settings=self._settings,
            backend=self._ready_backend(),
            places=self._places,
            ice_servers=self._ice_servers,
            gate=self._gate,
        )
        old = self._entries.get(room_token)
        running = sum(not entry.failed for entry in self._entries.values())
        if old is None and running >= self._settings.max_rooms:
            raise CaptionsRefused(
                f"{running} rooms have captions already, and LT_MAX_ROOMS is"
                f" {self._settings.max_rooms}"
            )
        if old is not None:
            # It is on its way out; the new one does not wait for that.
            self._leaving.add(old)
        intent = CallIntent(
            room_token=room_token, readers=(nc_session_id,), lang_id=lang_id
        )
        entry = _Entry(LiveCall(intent, services))
        self._entries[room_token] = entry
        self._tasks.start_soon(self._keep, entry, services)
        self._waker.wake(services.backend)
        return entry

    def _tell_refusal(self, room_token: str, reason: str) -> None:
        # Once for each reason, not for each press.
        if reason != self._told_refusal:
            self._told_refusal = reason
            extra = {"room_token": room_token}
            _log.warning("captions refused: %s", reason, extra=extra)

    def _ready_backend(self) -> Backend:
        missing = self._settings.missing()
        if missing is not None:
            raise CaptionsRefused(missing)
        if not self._accepting:
            raise CaptionsRefused("the app is disabled in Nextcloud")
        problem = self._recogniser.problem()
        if problem is not None:
            raise CaptionsRefused(problem)
        return self._recogniser.load()

    def _tell_language(self, entry: _Entry, lang_id: str | None) -> None:
        # Once for each room, not for each press.
        if lang_id is None or supported(lang_id):
            return
        if lang_id != entry.foreign:
            entry.foreign = lang_id
            _log.warning(
                "the room's language %r is not supported; using %r",
                lang_id[:20],
                self._settings.default_language,
                extra={"room_token": entry.call.room_token},
            )

    async def _keep(self, entry: _Entry, services: CallServices) -> None:
        """Run a call; after a failure run it again, if that can help."""
        token = entry.call.room_token
        delays = retry_delays(first_s=2.0)
        while True:
            delay_s: float | None = next(delays)
            try:
                await entry.call.run()
                entry.call.log_end()
                break
            except Exception as exc:
                # A bug in one call must not end the others.
                if not self._may_retry(entry, exc):
                    delay_s = None
            await self._wait(entry, delay_s)
            if entry.call.ending:
                break
            entry.failed, entry.again = False, anyio.Event()
            entry.call = LiveCall(entry.call.intent(), services)
        if self._entries.get(token) is entry:
            del self._entries[token]
        self._leaving.discard(entry)
        entry.done.set()

    def _may_retry(self, entry: _Entry, exc: Exception) -> bool:
        """Note a failure; tell whether it may pass by itself."""
        entry.failed = True
        while isinstance(exc, ExceptionGroup):
            exc = exc.exceptions[0]
        extra = {"room_token": entry.call.room_token}
        if isinstance(exc, SignalingError):
            entry.call.last_error = str(exc)
            _log.warning("captions stopped: %s", exc, extra=extra)
            return exc.retryable
        entry.call.last_error = f"internal error ({type(exc).__name__})"
        _log.error("captions stopped by a bug", exc_info=exc, extra=extra)
        return True

    async def _wait(self, entry: _Entry, delay_s: float | None) -> None:
        """Wait until it is time, or somebody asks; without either, give up."""
        if entry.call.ending:
            return
        with anyio.move_on_after(_KEPT_S if delay_s is None else delay_s) as scope:
            await entry.again.wait()
        if delay_s is None and scope.cancelled_caught:
            entry.call.end("nobody asked again")

    def _problems(self) -> list[str]:
        found = [self._settings.missing(), self._recogniser.problem()]
        return [
            *(problem for problem in found if problem is not None),
            *self._settings.problems,
        ]

    def _describe(self, entry: _Entry) -> dict[str, Any]:
        status = entry.call.status()
        if entry.failed:
            status["state"] = "failed"
            status["detail"] = f"{entry.call.last_error}; switch captions on again"
        return status
