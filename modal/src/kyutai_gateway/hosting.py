# SPDX-License-Identifier: MIT
"""The gateway where a platform takes "started" for "ready", as Modal does.

`python -m kyutai_gateway` opens its port at once and tells by `/readyz` how it is;
that suits Docker and Kubernetes. Here nobody is served before the model has answered
a stream: the start of the ASGI app (`hosted_app`), or the opening of the port
(`python -m kyutai_gateway.hosting`), waits for it. A start that fails, and a model
server that cannot be brought back, end the container, and the platform replaces it.

Source: modal 1.6.4, `_runtime/user_code_imports.py`: the lifespan's startup is
awaited before the first request is fetched, its shutdown after the last.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from ._upstream_base import UpstreamBase
from .app import Gateway, create_app
from .config import SettingsError, from_environment
from .logs import configure
from .servers import server_for
from .serving import serve
from .settings import GatewaySettings
from .supervisor import UpstreamFailed

__all__ = [
    "GatewayProcess",
    "NotReadyInTime",
    "end_container",
    "hosted_app",
    "main",
    "proven",
]

GOODBYE_S = 2.0
"""For streams to be told before the process ends."""
STOP_S = 28.0
"""Modal kills 30 s after it asked."""


class NotReadyInTime(Exception):
    """The model server did not become ready; says why, if that is known."""


def end_container() -> None:
    """End a container of Modal, whose own loop would go on without the app."""
    os._exit(1)


@asynccontextmanager
async def proven(
    server: UpstreamBase,
    *,
    timeout_s: float,
    give_up: Callable[[], None] | None = None,
) -> AsyncIterator[None]:
    """Run a model server, and begin only when it has answered a stream.

    Args:
        server: Not running yet.
        timeout_s: Seconds to become ready.
        give_up: Called when it was ready and cannot be brought back, 2 s after the
            streams were told.

    Raises:
        NotReadyInTime: If it is not ready in time.
        UpstreamFailed: If it cannot be brought back.
        SettingsError: If its weights are missing.
    """
    ready = False
    try:
        async with server:
            with anyio.move_on_after(timeout_s):
                await server.wait_ready()
                ready = True
            if not ready:
                why = server.problem or "it says nothing"
                raise NotReadyInTime(f"not ready within {timeout_s:g} s: {why}")
            yield
    except UpstreamFailed:
        if ready and give_up is not None:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(GOODBYE_S)
            give_up()
        raise


def hosted_app(
    settings: GatewaySettings | None = None,
    *,
    give_up: Callable[[], None] | None = None,
) -> Gateway:
    """Return the ASGI app; its lifespan starts the model server and waits for it.

    Args:
        settings: None reads them from the environment, and sends the logs of the
            process to standard output.
        give_up: See `proven`.

    Raises:
        SettingsError: If the environment is wrong.
    """
    if settings is None:
        settings = from_environment()
        configure(settings.log_level)
    server = server_for(settings)
    return create_app(
        settings,
        server,
        running=proven(server, timeout_s=settings.start_timeout_s, give_up=give_up),
    )


class GatewayProcess:
    """The gateway as a child of a process that only waits for it.

    The container must not outlive it: when it ends by itself, this process does too.
    """

    def __init__(self) -> None:
        self._stopping = threading.Event()
        command = [sys.executable, "-m", "kyutai_gateway.hosting"]
        self._process = subprocess.Popen(command)
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self, timeout_s: float = STOP_S) -> int:
        """Ask it to end, wait, and kill it at last; blocks.

        Args:
            timeout_s: Seconds until it is killed.

        Returns:
            Its exit status.
        """
        self._stopping.set()
        self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _watch(self) -> None:
        self._process.wait()
        if not self._stopping.is_set():
            end_container()


def main() -> None:
    """Serve, with a port that opens when the model is ready.

    Exit status: 0 after a drain, 1 with the reason if it cannot serve.
    """
    try:
        settings = from_environment()
        configure(settings.log_level)
        anyio.run(_serve, settings)
    except (NotReadyInTime, SettingsError, UpstreamFailed, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(1)


async def _serve(settings: GatewaySettings) -> None:
    server = server_for(settings)
    async with proven(server, timeout_s=settings.start_timeout_s):
        await serve(create_app(settings, server), settings)


if __name__ == "__main__":
    main()
