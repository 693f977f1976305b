# SPDX-License-Identifier: AGPL-3.0-or-later
"""Single requests to Nextcloud: bounded, ended in order, with one kind of failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

# nc_py_api ships no type information, so its re-exports count as private.
from nc_py_api import (  # type: ignore[attr-defined]
    AsyncNextcloudApp,
    NextcloudException,
)

from .config import Settings

__all__ = ["NextcloudFailed", "OcsClient"]

_GRACE_S = 1.0
"""Seconds that a request under way gets when the app is told to stop."""
_REFUSED = {401, 403, 404, 997, 998}
_PASSING = {408, 429, *range(500, 600)}


class NextcloudFailed(Exception):
    """A request to Nextcloud failed.

    Args:
        reason: What happened, for people.
        refused: Whether Nextcloud answered and said no.
        passing: Whether the same request may succeed later.
    """

    def __init__(
        self, reason: str, *, refused: bool = False, passing: bool = True
    ) -> None:
        super().__init__(reason)
        self.refused = refused
        self.passing = passing


class OcsClient:
    """nc_py_api's async client, made to keep time and to say in one way what failed.

    Args:
        settings: Where Nextcloud is and who we are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: dict[float, AsyncNextcloudApp] = {}
        self.last_error = ""
        """Why the last request failed, in plain words; empty if it did not."""

    async def ask(
        self, limit_s: float, request: Callable[[AsyncNextcloudApp], Any]
    ) -> Any:
        """Run one request, for so many seconds at most.

        Cancellation-safe: a request under way gets a moment to finish. Any number
        may run at a time.

        Args:
            limit_s: Longest time.
            request: Given the client, makes the request.

        Raises:
            NextcloudFailed: For every failure.
        """
        try:
            answer = await _bounded(request, self._client(limit_s), limit_s)
        except NextcloudFailed as exc:
            self.last_error = str(exc)
            raise
        except TimeoutError as exc:
            self.last_error = f"no answer within {limit_s:g} s"
            raise NextcloudFailed(self.last_error) from exc
        except NextcloudException as exc:
            self.last_error = f"HTTP or OCS status {exc.status_code} {exc.reason}"
            raise NextcloudFailed(
                self.last_error,
                refused=exc.status_code in _REFUSED,
                passing=exc.status_code in _PASSING,
            ) from exc
        except Exception as exc:
            # niquests, urllib3 and json have trees of their own without a base.
            self.last_error = f"not reachable ({type(exc).__name__})"
            raise NextcloudFailed(self.last_error) from exc
        self.last_error = ""
        return answer

    def _client(self, limit_s: float) -> AsyncNextcloudApp:
        settings = self._settings
        if settings.nextcloud_url is None:
            raise NextcloudFailed("NEXTCLOUD_URL is not set")
        if limit_s not in self._clients:
            # Everything given, so that it reads nothing from the environment.
            make: Any = AsyncNextcloudApp
            self._clients[limit_s] = make(
                nextcloud_url=settings.nextcloud_url,
                app_id=settings.app_id,
                app_version=settings.app_version,
                app_secret=settings.app_secret,
                aa_version=settings.aa_version,
                npa_timeout=round(limit_s),
                npa_nc_cert=not settings.skip_cert_verify,
            )
        return self._clients[limit_s]

    async def close(self) -> None:
        """Close connections, after every task that uses them has ended; bounded.

        Also works in a cancelled scope.
        """
        # nc_py_api has no public way.
        with anyio.CancelScope(shield=True), anyio.move_on_after(2.0):
            for client in self._clients.values():
                adapters: list[Any] = [
                    client._session.adapter,
                    client._session.adapter_dav,
                ]
                for adapter in adapters:
                    await adapter.close()
        self._clients.clear()


async def _bounded(
    request: Callable[[AsyncNextcloudApp], Any],
    client: AsyncNextcloudApp,
    limit_s: float,
) -> Any:
    """Run a request within a time, and to its end if we are cancelled meanwhile.

    niquests leaves the socket of a cancelled request open, so an ordinary one may
    finish before a shutdown goes on; one that hangs is cut off.
    """
    answer: Any = None
    failure: Exception | None = None
    finished = anyio.Event()
    scope = anyio.CancelScope(shield=True, deadline=anyio.current_time() + limit_s)

    async def run() -> None:
        nonlocal answer, failure
        with scope:
            try:
                answer = await request(client)
            except Exception as exc:
                failure = exc
        finished.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        try:
            await finished.wait()
        finally:
            scope.deadline = min(scope.deadline, anyio.current_time() + _GRACE_S)
    if failure is not None:
        raise failure
    if scope.cancelled_caught:
        raise TimeoutError
    return answer
