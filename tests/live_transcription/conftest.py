# SPDX-License-Identifier: AGPL-3.0-or-later
"""The application, alone or in a call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from kyutai_stream import Backend
from live_transcription.app import create_app
from live_transcription.config import Settings
from spreed_signaling.testing import StandInNextcloud
from spreed_signaling.testing._serve import AppServer

from .scene import INTERNAL_SECRET, ROOM, Open, Stage
from .talk import ENVIRONMENT, SECRET, StartTalk, Talk


@pytest.fixture
def start() -> StartTalk:
    """Run the application in this process, with other variables if wanted."""

    @asynccontextmanager
    async def run(
        backend: Backend | None = None, leave_after_s: float = 60.0, **changes: str
    ) -> AsyncIterator[Talk]:
        settings = Settings.from_environment({**ENVIRONMENT, **changes})
        settings = attrs.evolve(settings, leave_after_s=leave_after_s)
        app = create_app(settings, backend=backend)
        # As uvicorn does: the answer is sent, and the error is raised after it.
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://app") as client,
        ):
            yield Talk(app, client)

    return run


@pytest.fixture
def stage(start: StartTalk, tmp_path: Path) -> Open:
    """Run the app, served on a port, for a stand-in Nextcloud; deployed."""

    @asynccontextmanager
    async def run(
        nextcloud: StandInNextcloud,
        backend: Backend | None = None,
        **changes: Any,
    ) -> AsyncIterator[Stage]:
        nextcloud.add_room(ROOM)
        env = {
            "NEXTCLOUD_URL": nextcloud.url,
            "LT_HPB_URL": nextcloud.hpb_url,
            "LT_INTERNAL_SECRET": INTERNAL_SECRET,
            "LT_STUN_URLS": "",
        }
        async with AsyncExitStack() as stack:
            talk = await stack.enter_async_context(start(backend, **{**env, **changes}))
            server = await stack.enter_async_context(AppServer(talk.app))
            nextcloud.register_exapp(url=server.url, secret=SECRET, version="3.0.0")
            await nextcloud.deploy_exapp()
            opened = Stage(nextcloud, talk, stack, tmp_path)
            await opened.open()
            yield opened

    return run
