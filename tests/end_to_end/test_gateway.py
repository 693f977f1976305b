"""Speech of tones through the ExApp and the gateway: captions are what was said.

The talkers' tones go through Opus, the SFU, the ExApp and the gateway to a recogniser
that hears them. Nothing but the model is made up, and against the real moshi-server
not even that.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from kyutai_stream.testing.moshi_server import FakeMoshiServer
from kyutai_stream.testing.real import RealMoshiServer, unavailable_reason
from kyutai_stream.testing.tones import VOCABULARY
from spreed_signaling.testing import ServerKind

KEY, SECRET = "wk-demo-key", "ws-demo-secret"
CREDENTIALS = {"MODAL_KEY": KEY, "MODAL_SECRET": SECRET}
READY_S = 30.0


class GatewayProcess:
    """`python -m kyutai_gateway`, attached to a server, at one address all along."""

    def __init__(self, attach_url: str, printed: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._environment = {
            **os.environ,
            "KYUTAI_GATEWAY_PORT": str(self._port),
            "KYUTAI_GATEWAY_KEY": KEY,
            "KYUTAI_GATEWAY_SECRET": SECRET,
            "KYUTAI_GATEWAY_ATTACH_URL": attach_url,
            "KYUTAI_GATEWAY_SLOTS": "2",
            "KYUTAI_GATEWAY_DRAIN_S": "1",
            "KYUTAI_GATEWAY_LOG_LEVEL": "debug",
        }
        self._process: Process | None = None
        self._printed = printed

    @property
    def log(self) -> str:
        """What they have printed so far."""
        return self._printed.read_text()

    @property
    def url(self) -> str:
        """Without a path, as an administrator would give it."""
        return f"ws://127.0.0.1:{self._port}"

    async def start(self) -> None:
        with self._printed.open("a") as printed:
            self._process = await anyio.open_process(
                [sys.executable, "-m", "kyutai_gateway"],
                env=self._environment,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
        async with httpx.AsyncClient(trust_env=False) as client:
            with anyio.fail_after(READY_S):
                while not await self._is_ready(client):  # noqa: ASYNC110
                    await anyio.sleep(0.05)

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        try:
            url = f"http://127.0.0.1:{self._port}/readyz"
            return (await client.get(url)).status_code == 200
        except httpx.TransportError:
            return False

    async def end(self, number: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            await process.wait()
            await process.aclose()

    async def restart(self, number: signal.Signals) -> None:
        await self.end(number)
        await self.start()


@asynccontextmanager
async def running_gateway(
    attach_url: str, folder: Path
) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(attach_url, folder / "gateway.log")
    try:
        await gateway.start()
        yield gateway
    finally:
        with anyio.CancelScope(shield=True):
            await gateway.end(signal.SIGKILL)
        # Shown where the test has failed.
        print(gateway.log)  # noqa: T201


class Demo:
    """What a running demo says, line by line."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self._chunks = TextReceiveStream(process.stdout)
        self._rest = ""
        self.records: list[dict[str, Any]] = []

    async def hear(self, captions: int) -> None:
        """Read until so many captions have come."""
        while len(self.records) < captions:
            self._take(await self._chunks.receive())

    async def hear_all(self) -> None:
        async for chunk in self._chunks:
            self._take(chunk)

    def _take(self, chunk: str) -> None:
        *lines, self._rest = (self._rest + chunk).split("\n")
        self.records += [json.loads(line) for line in lines]


@asynccontextmanager
async def running_demo(
    *arguments: str, secrets: dict[str, str]
) -> AsyncIterator[tuple[Demo, Process]]:
    command = [sys.executable, "-m", "live_transcription", "demo"]
    command += ["--json", "--no-page", "--voice", "tones", *arguments]
    process = await anyio.open_process(
        command, env={**os.environ, **secrets}, stderr=subprocess.PIPE
    )
    try:
        yield Demo(process), process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.aclose()


async def whole_demo(
    *arguments: str, secrets: dict[str, str]
) -> tuple[int, list[dict[str, Any]], str]:
    """Run a demo to its end; its exit status, records and errors."""
    errors = b""

    async def keep_errors(process: Process) -> None:
        nonlocal errors
        assert process.stderr is not None
        async for data in process.stderr:
            errors += data

    async with running_demo(*arguments, secrets=secrets) as (demo, process):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_errors, process)
            await demo.hear_all()
        status = await process.wait()
    return status, demo.records, errors.decode()


def require_exact(records: list[dict[str, Any]], talkers: int) -> None:
    summary = records[-1]
    assert summary["exact"] is True, summary
    assert [talker["exact"] for talker in summary["talkers"]] == [True] * talkers


def words_in(log: str) -> set[str]:
    """Words of the vocabulary in a log."""
    return set(re.findall(r"[a-z]+", log.lower())) & set(VOCABULARY)


@pytest.mark.timeout(150)
async def test_captions_through_the_gateway(
    tmp_path: Path, server_kind: ServerKind
) -> None:
    async with (
        FakeMoshiServer() as server,
        running_gateway(server.url, tmp_path) as gateway,
    ):
        status, records, errors = await whole_demo(
            *("--backend", "modal", "--stt-url", gateway.url),
            *("--talkers", "2", "--signaling", server_kind),
            secrets=CREDENTIALS,
        )
        assert status == 0, errors
        require_exact(records, 2)
        await server.wait_until(lambda: server.used_slots == 0)
        await gateway.end(signal.SIGTERM)
    for secret in CREDENTIALS.values():
        assert secret not in errors
        assert secret not in json.dumps(records)
        assert secret not in gateway.log
    assert gateway.log.count('"stream_opened"') >= 2
    assert words_in(gateway.log) == set()


@pytest.mark.timeout(150)
async def test_the_gateway_restarts_in_mid_speech(
    tmp_path: Path, server_kind: ServerKind
) -> None:
    async with (
        FakeMoshiServer() as server,
        running_gateway(server.url, tmp_path) as gateway,
        running_demo(
            *("--backend", "modal", "--stt-url", gateway.url),
            *("--signaling", server_kind),
            secrets=CREDENTIALS,
        ) as (demo, process),
    ):
        await demo.hear(captions=3)
        await gateway.restart(signal.SIGTERM)
        await demo.hear(captions=9)
        await gateway.restart(signal.SIGKILL)
        await demo.hear_all()
        assert await process.wait() == 0
        require_exact(demo.records, 1)
        # The first probe of each gateway comes on top of the three streams.
        assert len([one for one in server.connections if one.frames > 1]) == 3


async def test_a_wrong_secret_is_said_at_once(tmp_path: Path) -> None:
    async with (
        FakeMoshiServer() as server,
        running_gateway(server.url, tmp_path) as gateway,
    ):
        wrong = {**CREDENTIALS, "MODAL_SECRET": "ws-something-else"}
        status, records, errors = await whole_demo(
            *("--backend", "modal", "--stt-url", gateway.url),
            *("--signaling", "embedded"),
            secrets=wrong,
        )
    assert status == 1
    assert records == []
    assert "MODAL" in errors.upper() and "something-else" not in errors


async def test_straight_to_a_moshi_server() -> None:
    async with FakeMoshiServer(keys=["another_token"]) as server:
        status, records, errors = await whole_demo(
            *("--backend", "moshi-server", "--stt-url", server.url),
            *("--signaling", "embedded"),
            secrets={"LT_STT_API_KEY": "another_token"},
        )
    assert status == 0, errors
    require_exact(records, 1)
    assert "another_token" not in errors + json.dumps(records)


@pytest.mark.moshi
@pytest.mark.timeout(300)
async def test_through_the_gateway_to_the_real_moshi_server(
    request: pytest.FixtureRequest, tmp_path: Path, server_kind: ServerKind
) -> None:
    reason = unavailable_reason()
    if reason is not None:
        if request.config.getoption("--require-real"):
            pytest.fail(f"required in this run, but not available: {reason}")
        pytest.skip(f"NOT TESTED AGAINST THE REAL SERVER: {reason}")
    async with (
        RealMoshiServer(batch_size=1, model="listen") as server,
        running_gateway(server.url, tmp_path) as gateway,
        running_demo(
            *("--backend", "modal", "--stt-url", gateway.url),
            *("--signaling", server_kind),
            secrets=CREDENTIALS,
        ) as (demo, process),
    ):
        await demo.hear(captions=4)
        await gateway.restart(signal.SIGKILL)
        await demo.hear_all()
        assert await process.wait() == 0
        require_exact(demo.records, 1)
