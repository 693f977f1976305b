# SPDX-License-Identifier: MIT
"""nextcloud-spreed-signaling as one process, which may end and begin again."""

from __future__ import annotations

import functools
from pathlib import Path

import httpx

from ...errors import RoomApiError, UsageError
from ...http import welcome
from .._serve import local_client
from ._packages import HpbPackage
from ._process import ServerProcess

__all__ = ["Hpb"]


class Hpb:
    """The signaling server at one address.

    Args:
        package: What to start.
        folder: Gets its configuration and its log.
    """

    def __init__(self, package: HpbPackage, folder: Path) -> None:
        self.version = ""
        """What it reports, once it was started: for example `2.0.2-2+b2.debian`."""
        self._package = package
        self._folder = folder
        self._process: ServerProcess | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    async def start(self, config: str, url: str) -> None:
        """Start it; wait until it answers.

        Args:
            config: Text of its configuration file.
            url: Where it answers with that.

        Raises:
            ServerStartFailed: If it does not come up.
            UsageError: If it is running.
        """
        if self.running:
            raise UsageError("the signaling server is running")
        file = self._folder / "hpb.conf"
        file.touch(mode=0o600)
        file.write_text(config)
        process = ServerProcess(
            "the signaling server",
            [str(self._package.binary), "--config", str(file)],
            self._folder / "hpb.log",
        )
        self._process = process
        await process.start()
        async with local_client(2.0) as client:
            answers = functools.partial(self._answers, process, url, client)
            await process.wait_ready(answers)

    async def stop(self, *, kill: bool) -> None:
        """End it, by SIGTERM or SIGKILL; harmless when it is down."""
        process, self._process = self._process, None
        if process is not None:
            await process.stop(kill=kill)

    async def _answers(
        self, process: ServerProcess, url: str, client: httpx.AsyncClient
    ) -> bool:
        # On a given port another server may answer before ours fails to bind it.
        if "Listening on" not in process.output():
            return False
        try:
            self.version = (await welcome(url, client=client)).version
        except RoomApiError:
            return False
        return True
