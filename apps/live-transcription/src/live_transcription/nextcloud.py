# SPDX-License-Identifier: AGPL-3.0-or-later
"""Our requests to Nextcloud, through nc_py_api's async client.

Nothing here is on a request path of Talk: all of it runs in the background, every
wait is bounded, and the app works while Nextcloud is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import anyio
from anyio.abc import TaskStatus

from spreed_signaling.types import IceServer

from .config import Settings
from .logs import LogLine, LogQueue
from .ocs import NextcloudFailed, OcsClient

__all__ = ["NextcloudLink", "parse_ice_servers"]

_log = logging.getLogger(__name__)

_LINES = "/ocs/v1.php/apps/app_api/api/v1/log"
_STATE = "/ocs/v1.php/apps/app_api/ex-app/state"
_TALK_SETTINGS = "/ocs/v2.php/apps/spreed/api/v3/signaling/settings"

_SHORT_S = 5.0
"""Seconds for an ordinary request."""
_ENABLING_S = 90.0
"""Nextcloud enables the app inside the report of 100 %, which may take 60 s."""
_INIT_DELAYS_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_STATE_DELAYS_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_LOG_PAUSE_S = 0.2
_LOG_RETRY_S = 30.0


class NextcloudLink:
    """What this app tells and asks Nextcloud.

    Args:
        settings: Where it is and who we are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ocs = OcsClient(settings)
        self._enabled: bool | None = None
        self._told = False
        self._changed = anyio.Event()
        self._reporting = False
        self._log_failed = False
        self.logs = LogQueue()

    @property
    def last_error(self) -> str:
        """Why the last request failed, in plain words; empty if it did not."""
        return self._ocs.last_error

    @property
    def enabled(self) -> bool | None:
        """Whether the administrator has enabled this app; None while unknown."""
        return self._enabled

    @property
    def switched_off(self) -> bool:
        """Whether AppAPI itself told us that we are disabled."""
        return self._told and self._enabled is False

    def tell_enabled(self, enabled: bool) -> None:
        """AppAPI said so."""
        self._told = True
        self._set_enabled(enabled)

    def prove_enabled(self) -> None:
        """Talk called us, which it does for enabled apps only."""
        if not self._told:
            self._set_enabled(True)

    def _set_enabled(self, enabled: bool) -> None:
        self._enabled = enabled
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def run(
        self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Learn the enabled state and send warnings until cancelled.

        Started, it collects warnings.
        """
        loop, wake = asyncio.get_running_loop(), anyio.Event()

        def renew() -> anyio.Event:
            nonlocal wake
            wake = anyio.Event()
            return wake

        self.logs.attach(lambda: loop.call_soon_threadsafe(lambda: wake.set()))
        task_status.started()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._learn_enabled)
                tasks.start_soon(self._send_logs, renew)
        finally:
            self.logs.detach()

    async def report_ready(self) -> None:
        """Report 100 %, with bounded retries; one report at a time."""
        if self._reporting:
            return
        self._reporting = True
        try:
            for delay_s in _INIT_DELAYS_S:
                await anyio.sleep(delay_s)
                try:
                    await self._ocs.ask(_ENABLING_S, lambda nc: nc.set_init_status(100))
                except NextcloudFailed as exc:
                    _log.warning("reporting the finished start failed: %s", exc)
                    if exc.refused:
                        # Each refusal counts as an attack on Nextcloud.
                        return
                    continue
                return
            _log.error("Nextcloud never took the report that this app is ready")
        finally:
            self._reporting = False

    async def ice_servers(self) -> tuple[IceServer, ...]:
        """Return STUN and TURN servers: ours, else Talk's; none if unknown.

        Never raises and takes five seconds at most. Asked for each call: TURN
        credentials expire.
        """
        if self._settings.ice_servers is not None:
            return self._settings.ice_servers
        try:
            data = await self._ocs.ask(
                _SHORT_S, lambda nc: nc.ocs("GET", _TALK_SETTINGS)
            )
        except NextcloudFailed as exc:
            # Some releases of Talk refuse it; most installations work without.
            _log.info("no STUN and TURN servers from Nextcloud: %s", exc)
            return ()
        return parse_ice_servers(data)

    async def _learn_enabled(self) -> None:
        """Ask until it is known; a refusal counts as an attack, so once only."""
        attempt = 0
        while self._enabled is None and self._settings.nextcloud_url is not None:
            last = len(_STATE_DELAYS_S) - 1
            await anyio.sleep(_STATE_DELAYS_S[min(attempt, last)])
            attempt += 1
            try:
                state = await self._ocs.ask(_SHORT_S, lambda nc: nc.ocs("GET", _STATE))
            except NextcloudFailed as exc:
                if exc.refused:
                    _log.info("Nextcloud does not know this app yet: %s", exc)
                    return
                if attempt == 1:
                    _log.warning("Nextcloud cannot be asked whether we are on: %s", exc)
                continue
            # Somebody may have told us meanwhile, and knows better.
            if self._enabled is None:
                self._set_enabled(bool(state))

    async def _send_logs(self, renew: Callable[[], anyio.Event]) -> None:
        while True:
            # A disabled app is refused, and a refusal counts as an attack.
            while self._enabled is not True:
                await self._changed.wait()
            wake = renew()
            line = self.logs.take()
            if line is None:
                await wake.wait()
                continue
            taken = await self._send_log(line)
            # Also where the next line would be refused, too: each refusal counts as
            # an attack on Nextcloud.
            await anyio.sleep(_LOG_PAUSE_S if taken else _LOG_RETRY_S)

    async def _send_log(self, line: LogLine) -> bool:
        """Send a line; tell whether Nextcloud took it."""
        body = {"level": line.level, "message": line.text}
        try:
            # nc_py_api's own method for it swallows failures.
            await self._ocs.ask(_SHORT_S, lambda nc: nc.ocs("POST", _LINES, json=body))
        except NextcloudFailed as exc:
            if not self._log_failed:
                _log.info("Nextcloud takes no lines for its log: %s", exc)
            self._log_failed = True
            if exc.passing:
                self.logs.put_back(line)
            else:
                self.logs.dropped += 1
            return False
        self._log_failed = False
        return True

    async def close(self) -> None:
        """Close connections, after every task that uses them has ended; bounded.

        Also works in a cancelled scope.
        """
        await self._ocs.close()


def parse_ice_servers(data: Any) -> tuple[IceServer, ...]:
    """Read the STUN and TURN servers of Talk's signaling settings.

    Args:
        data: The answer's data; entries that make no sense are skipped.
    """
    found = []
    for key in ("stunservers", "turnservers"):
        entries = data.get(key) if isinstance(data, dict) else None
        for entry in entries if isinstance(entries, list) else []:
            urls = entry.get("urls") if isinstance(entry, dict) else None
            urls = [urls] if isinstance(urls, str) else urls
            if not isinstance(urls, list):
                continue
            wanted = tuple(url for url in urls if isinstance(url, str) and url)
            if wanted:
                found.append(
                    IceServer(
                        urls=wanted,
                        username=entry.get("username"),
                        credential=entry.get("credential"),
                    )
                )
    return tuple(found)
