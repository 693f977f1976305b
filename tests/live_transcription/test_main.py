# SPDX-License-Identifier: AGPL-3.0-or-later
"""The console command, the container's scripts and the manifest."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from xml.etree import ElementTree

import anyio
import anyio.abc
import httpx
import pytest

from live_transcription.__main__ import main
from spreed_signaling.testing._serve import bind_socket

from .talk import ENVIRONMENT, SECRET, Talk

APP = Path(__file__).parents[2] / "apps" / "live-transcription"
PATH = "/usr/local/bin:/usr/bin:/bin"
START_LIMIT_S = 30


def free_port() -> int:
    with bind_socket() as sock:
        port: int = sock.getsockname()[1]
    return port


@asynccontextmanager
async def process(
    client: httpx.AsyncClient, env: dict[str, str]
) -> AsyncIterator[anyio.abc.Process]:
    """Run the server in a process of its own until it answers; ends it."""
    command = [sys.executable, "-m", "live_transcription"]
    async with await anyio.open_process(
        command, env={**ENVIRONMENT, "PATH": PATH, **env}, stderr=subprocess.STDOUT
    ) as running:
        try:
            with anyio.fail_after(START_LIMIT_S):
                while True:
                    try:
                        await client.get("/heartbeat")
                        break
                    except httpx.TransportError:
                        await anyio.sleep(0.1)
            yield running
        finally:
            if running.returncode is None:
                running.kill()


async def test_serves_and_ends_in_time_without_telling_secrets() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = {"APP_PORT": str(port), "LT_MAX_ROOMS": "many"}
    async with (
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
        process(client, env) as running,
    ):
        refused = await client.get("/api/v1/languages", headers=Talk.headers("wrong"))
        assert refused.status_code == 401
        pressed = await client.post(
            "/api/v1/call/transcribe",
            headers=Talk.headers(),
            json={"roomToken": "r", "ncSessionId": "nc1", "enable": True},
        )
        assert pressed.status_code == 200
        running.send_signal(signal.SIGTERM)
        with anyio.fail_after(10):
            assert running.stdout is not None
            output = b"".join([part async for part in running.stdout]).decode()
            code = await running.wait()
        assert code in (0, -signal.SIGTERM)
        lines = [json.loads(line) for line in output.splitlines()]
        assert any("LT_MAX_ROOMS" in line["message"] for line in lines)
        assert SECRET not in output
        assert ENVIRONMENT["LT_INTERNAL_SECRET"] not in output


async def test_listens_on_a_unix_socket_for_harp(tmp_path: Path) -> None:
    socket = tmp_path / "exapp.sock"
    env = {"HP_SHARED_KEY": "shared-key", "HP_EXAPP_SOCK": str(socket)}
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
        process(client, env),
    ):
        answer = await client.get("/heartbeat")
        assert answer.json() == {"status": "ok"}
        await check_health(env, expected=0)
    await check_health({**env, "HP_EXAPP_SOCK": str(tmp_path / "none")}, expected=7)


async def test_healthcheck_finds_the_port() -> None:
    port = free_port()
    env = {"APP_PORT": str(port), "APP_HOST": "0.0.0.0"}
    async with (
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False
        ) as client,
        process(client, env),
    ):
        await check_health(env, expected=0)
    await check_health(env, expected=7)


async def check_health(env: dict[str, str], *, expected: int) -> None:
    """Run the container's health check; curl says 7 if nothing listens."""
    if shutil.which("curl", path=PATH) is None:
        pytest.skip("no curl on this machine")
    done = await anyio.run_process(
        [str(APP / "healthcheck.sh")], env={"PATH": PATH, **env}, check=False
    )
    assert done.returncode == expected


def test_h7_refuses_to_start_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APP_SECRET", "")
    assert main([]) == 1
    assert "APP_SECRET is empty" in capsys.readouterr().err


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert "usage" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "demo" in capsys.readouterr().out


NAMES = (
    "LT_HPB_URL LT_INTERNAL_SECRET LT_BACKEND_URL SKIP_CERT_VERIFY LT_STT_BACKEND"
    " LT_STT_URL LT_STT_API_KEY MODAL_WORKSPACE MODAL_KEY MODAL_SECRET"
    " LT_DEFAULT_LANGUAGE LT_PARTIALS LT_MAX_SPEAKERS LT_MAX_ROOMS LT_STUN_URLS"
    " LT_TURN_URLS"
).split()


def test_manifest_declares_every_variable() -> None:
    # An undeclared variable is silently dropped by AppAPI.
    info = ElementTree.parse(APP / "appinfo" / "info.xml").getroot()
    variables = info.findall("external-app/environment-variables/variable")
    assert [one.findtext("name") for one in variables] == NAMES
    assert all(one.findtext("display-name") for one in variables)
    assert info.findtext("id") == "live_transcription"
    project = tomllib.loads((APP / "pyproject.toml").read_text())["project"]
    version = info.findtext("version")
    tag = info.findtext("external-app/docker-install/image-tag")
    assert version == tag == project["version"]


def test_every_variable_is_documented() -> None:
    page = (APP.parents[1] / "docs" / "reference" / "environment.md").read_text()
    assert not [name for name in NAMES if f"`{name}`" not in page]


def test_scripts_are_valid_shell() -> None:
    for name in ("start.sh", "healthcheck.sh"):
        subprocess.run(["/bin/sh", "-n", str(APP / name)], check=True)


def test_webrtc_is_loaded_with_the_first_call_only() -> None:
    code = "import sys, live_transcription.app; print('aiortc' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
