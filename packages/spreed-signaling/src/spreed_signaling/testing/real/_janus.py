# SPDX-License-Identifier: MIT
"""Janus as one process, which may end and begin again."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import anyio

from ...errors import UsageError
from ._configs import janus_configs
from ._network import JanusNetwork
from ._packages import JanusInstall
from ._process import ServerProcess

__all__ = ["Janus"]


class Janus:
    """Janus at one address.

    Args:
        install: What to start.
        network: Where it lives.
        folder: Gets its configuration and its log.
    """

    def __init__(
        self, install: JanusInstall, network: JanusNetwork, folder: Path
    ) -> None:
        self.version = ""
        """Known once it was started, for example `1.1.2`."""
        self._install = install
        self._network = network
        self._folder = folder
        self._process: ServerProcess | None = None

    async def start(self) -> None:
        """Start it; wait until it takes connections.

        Raises:
            ServerStartFailed: If it does not come up.
            UsageError: If it is running.
        """
        if self._process is not None:
            raise UsageError("Janus is running")
        configs = self._write_configs()
        binary = str(self._install.binary)
        process = ServerProcess(
            "Janus",
            self._network.command(binary, "-F", str(configs)),
            self._folder / "janus.log",
        )
        self._process = process
        await process.start()
        await process.wait_ready(self._listens)
        self.version = _version(process.output())

    async def stop(self, *, kill: bool) -> None:
        """End it, by SIGTERM or SIGKILL; harmless when it is down."""
        process, self._process = self._process, None
        if process is not None:
            await process.stop(kill=kill)

    def _write_configs(self) -> Path:
        folder = self._folder / "janus"
        folder.mkdir(exist_ok=True)
        files = janus_configs(
            folder=folder,
            libraries=self._install.libraries,
            ws_address=self._network.ws_address,
            ws_port=self._network.ws_port,
            media_address=self._network.media_address,
            rtp_ports=self._network.rtp_ports,
        )
        for name, text in files.items():
            (folder / name).write_text(text)
        return folder

    async def _listens(self) -> bool:
        with contextlib.suppress(OSError), anyio.move_on_after(1.0):
            stream = await anyio.connect_tcp(
                self._network.ws_address, self._network.ws_port
            )
            await stream.aclose()
            return True
        return False


def _version(output: str) -> str:
    match = re.search(r"^Janus version: \d+ \((.+)\)", output, re.MULTILINE)
    return match[1] if match else ""
