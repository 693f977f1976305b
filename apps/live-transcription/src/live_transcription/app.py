# SPDX-License-Identifier: AGPL-3.0-or-later
"""The application: routes, authentication, and the tasks behind them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI

from kyutai_stream import Backend

from .api import Services, add_error_handlers, router
from .auth import AppApiAuth
from .config import Settings
from .nextcloud import NextcloudLink
from .supervisor import Supervisor

__all__ = ["create_app"]

_log = logging.getLogger(__name__)

SHUTDOWN_S = 8.0
"""Longest wait for the last words at the end; Docker kills after ten seconds."""


def create_app(settings: Settings, *, backend: Backend | None = None) -> FastAPI:
    """Return the application.

    Starting it needs neither Nextcloud nor the signaling server to be there.

    Args:
        settings: From the environment.
        backend: A speech-to-text backend instead of the configured one.
    """
    app = FastAPI(
        title="live_transcription",
        version=settings.app_version,
        lifespan=lambda app: _running(app, settings, backend),
        # No pages for browsers.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.include_router(router)
    add_error_handlers(app)
    app.add_middleware(
        AppApiAuth, app_id=settings.app_id, app_secret=settings.app_secret
    )
    return app


@asynccontextmanager
async def _running(
    app: FastAPI, settings: Settings, backend: Backend | None
) -> AsyncIterator[None]:
    """Run what the routes use; at the end bring out the last words."""
    nextcloud = NextcloudLink(settings)
    try:
        async with anyio.create_task_group() as tasks:
            supervisor = Supervisor(
                settings, tasks, ice_servers=nextcloud.ice_servers, backend=backend
            )
            app.state.services = Services(
                settings=settings,
                supervisor=supervisor,
                nextcloud=nextcloud,
                tasks=tasks,
            )
            # First: it collects warnings for Nextcloud's log.
            await tasks.start(nextcloud.run)
            _log_start(settings, supervisor)
            try:
                yield
            finally:
                with anyio.CancelScope(shield=True):
                    await supervisor.close(SHUTDOWN_S)
                tasks.cancel_scope.cancel()
    finally:
        # Requests that were under way have ended or been cut off by now.
        await nextcloud.close()


def _log_start(settings: Settings, supervisor: Supervisor) -> None:
    status = supervisor.status()
    _log.info(
        "live_transcription %s: recogniser %s",
        settings.app_version,
        status["backend"]["name"],
    )
    for problem in status["problems"]:
        _log.warning("%s", problem)
