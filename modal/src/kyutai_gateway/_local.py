# SPDX-License-Identifier: MIT
"""What a server of our own needs on this machine: a folder, a port, a listener."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anyio

__all__ = ["HOST", "free_port", "listening", "run_folder"]

HOST = "127.0.0.1"
"""As a number: a name would silently become IPv6 in moshi-server."""
POLL_S = 0.05


@contextmanager
def run_folder() -> Generator[Path, None, None]:
    """Make a folder for this user only, and remove it with everything in it."""
    folder = Path(tempfile.mkdtemp(prefix="kyutai-gateway-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def listening(port: int) -> None:
    """Wait until something listens on a port of this machine; never gives up."""
    while True:
        with contextlib.suppress(OSError):
            async with await anyio.connect_tcp(HOST, port):
                return
        await anyio.sleep(POLL_S)


def free_port() -> int:
    """Return a TCP port that is free now.

    From below the range that systems give to outgoing connections: otherwise a
    client that dials while the server is down might be given that very port.

    Raises:
        OSError: If none is found.
    """
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind((HOST, port))
            return port
    raise OSError(f"no free TCP port found on {HOST}")
