# SPDX-License-Identifier: AGPL-3.0-or-later
"""The set of the demo: Nextcloud, signaling server with SFU, and the real ExApp."""

from __future__ import annotations

import json
import secrets
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import anyio
from anyio.abc import Process
from attrs import field, frozen

from spreed_signaling.testing import (
    ServerKind,
    SignalingServer,
    StandInNextcloud,
    open_site,
)
from spreed_signaling.testing.nextcloud import ExAppFailed, ExAppUnreachable
from spreed_signaling.testing.real import RealServers

__all__ = ["ROOM", "DemoFailed", "Stage", "open_stage", "run_exapp"]

ROOM = "demoroom"
"""Token of the demo's conversation."""

_STOP_GRACE_S = 1.5
"""Seconds the ExApp gets to say goodbye before it is killed."""

_LOG_LINES = 40

_VERSION = "3.0.0"


class DemoFailed(Exception):
    """The demo cannot go on; the text says why and what to do."""


@frozen(kw_only=True)
class Stage:
    """Everything that runs while the demo runs."""

    nextcloud: StandInNextcloud
    server: SignalingServer
    exapp_log: deque[str] = field(repr=False)
    """The ExApp's last log lines."""

    async def exapp_status(self) -> dict[str, Any]:
        """Return what the ExApp says about itself.

        Raises:
            DemoFailed: If it does not answer.
        """
        try:
            answer = await self.nextcloud.exapp_request("GET", "/api/v1/status")
        except ExAppUnreachable as exc:
            raise DemoFailed(f"the ExApp does not answer: {exc}") from exc
        status: dict[str, Any] = answer.json()
        return status


@asynccontextmanager
async def open_stage(
    signaling: ServerKind,
    backend: str,
    environment: Mapping[str, str],
    step: Callable[[str], None],
) -> AsyncIterator[Stage]:
    """Start everything, and end everything when the block is left.

    Args:
        signaling: Which signaling server.
        backend: Name of the speech recogniser.
        environment: Where the ExApp's further settings (`LT_*`, `MODAL_*`) and its
            `PATH` come from.
        step: Called with what is being done, for people.

    Raises:
        DemoFailed: If something does not start.
        RealServersUnavailable: If `signaling` is `real` and it cannot be had.
    """
    step("starting the signaling server and its SFU")

    def fall_back(reason: str) -> None:
        step(f"no real signaling server ({reason}): using the embedded one")

    async with open_site(signaling, room_token=ROOM, on_fallback=fall_back) as site:
        server = site.server
        # Only the address that reaches the SFU: what else this machine has is no
        # business of a demo.
        pinned = server.pinned_ice() if isinstance(server, RealServers) else None
        with pinned or nullcontext():
            step("starting the ExApp")
            async with run_exapp(
                site.nextcloud,
                hpb_url=server.url,
                internal_secret=server.internal_secret,
                backend=backend,
                environment=environment,
            ) as log:
                yield Stage(nextcloud=site.nextcloud, server=server, exapp_log=log)


@asynccontextmanager
async def run_exapp(
    nextcloud: StandInNextcloud,
    *,
    hpb_url: str,
    internal_secret: str,
    backend: str,
    environment: Mapping[str, str],
) -> AsyncIterator[deque[str]]:
    """Run the real ExApp in a process of its own, installed in the stand-in.

    Args:
        nextcloud: Where it is registered and enabled.
        hpb_url: Its signaling server, running or not.
        internal_secret: The secret it is given, right or wrong.
        backend: Name of the speech recogniser.
        environment: Further variables.

    Yields:
        Its last log lines.

    Raises:
        DemoFailed: If it does not start.
    """
    port, secret = _free_port(), secrets.token_hex(32)
    variables = {
        **environment,
        **_deployed(nextcloud, port, secret),
        "LT_HPB_URL": hpb_url,
        "LT_INTERNAL_SECRET": internal_secret,
        "LT_STT_BACKEND": backend,
    }
    log: deque[str] = deque(maxlen=_LOG_LINES)
    process = await anyio.open_process(
        [sys.executable, "-m", "live_transcription.demo.child"],
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # Ctrl-C is for the demo, which then ends the ExApp in order.
        start_new_session=True,
    )
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_keep_log, process, log)
            nextcloud.register_exapp(
                url=f"http://127.0.0.1:{port}", secret=secret, version=_VERSION
            )
            await _deploy(nextcloud, process, log)
            try:
                yield log
            finally:
                await _stop(process)
                tasks.cancel_scope.cancel()
    finally:
        await _stop(process)


def _deployed(nextcloud: StandInNextcloud, port: int, secret: str) -> dict[str, str]:
    """The variables that AppAPI sets when it deploys an ExApp."""
    return {
        "APP_ID": "live_transcription",
        "APP_SECRET": secret,
        "APP_VERSION": _VERSION,
        "APP_HOST": "127.0.0.1",
        "APP_PORT": str(port),
        "AA_VERSION": "5.0.2",
        "NEXTCLOUD_URL": nextcloud.url,
    }


async def _deploy(
    nextcloud: StandInNextcloud, process: Process, log: deque[str]
) -> None:
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await process.wait()
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        try:
            await nextcloud.deploy_exapp()
        except (ExAppFailed, ExAppUnreachable) as exc:
            failure = exc
        tasks.cancel_scope.cancel()
    if process.returncode is not None:
        raise DemoFailed("the ExApp ended while it started:\n" + "\n".join(log))
    if failure is not None:
        raise DemoFailed(f"the ExApp did not start: {failure}\n" + "\n".join(log))


async def _keep_log(process: Process, log: deque[str]) -> None:
    """Read the ExApp's log to its end, keeping the last lines readable."""
    assert process.stdout is not None, "opened with a pipe"
    rest = b""
    async for data in process.stdout:
        *lines, rest = (rest + data).split(b"\n")
        log.extend(_readable(line) for line in lines if line.strip())


def _readable(line: bytes) -> str:
    text = line.decode(errors="replace")
    try:
        record = json.loads(text)
        return f"{record.get('level', '')} {record.get('message', text)}".strip()
    except (ValueError, AttributeError):
        return text


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    with anyio.CancelScope(shield=True):
        process.send_signal(signal.SIGTERM)
        with anyio.move_on_after(_STOP_GRACE_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
