"""`python -m kyutai_gateway` as a process: starts, serves, drains at SIGTERM."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
from anyio.abc import Process
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from kyutai_stream.testing.moshi_server import FakeMoshiServer
from kyutai_stream.testing.tones import speak


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@asynccontextmanager
async def gateway(moshi: FakeMoshiServer, port: int) -> AsyncIterator[Process]:
    environment = {
        "KYUTAI_GATEWAY_PORT": str(port),
        "KYUTAI_GATEWAY_AUTH": "bearer",
        "KYUTAI_GATEWAY_BEARER": "very-secret",
        "KYUTAI_GATEWAY_ATTACH_URL": moshi.url,
        "KYUTAI_GATEWAY_DRAIN_S": "5",
        "KYUTAI_GATEWAY_LOG_LEVEL": "debug",
    }
    command = [sys.executable, "-m", "kyutai_gateway"]
    async with await anyio.open_process(
        command, env=environment, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def ready(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        with anyio.fail_after(30):
            while True:
                try:
                    if (await client.get("/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await anyio.sleep(0.1)


async def output_of(process: Process) -> str:
    assert process.stdout is not None
    return b"".join([chunk async for chunk in process.stdout]).decode()


async def test_it_serves_and_drains() -> None:
    said = speak("alpha bravo charlie", lead_s=0.2, tail_s=0.1)
    port = free_port()
    headers = {"Authorization": "Bearer very-secret"}
    async with FakeMoshiServer() as moshi, gateway(moshi, port) as process:
        await ready(port)
        url = f"ws://127.0.0.1:{port}/v1/stream"
        async with connect(url, additional_headers=headers) as client:
            await client.send(said.samples.astype("<f4").tobytes())
            messages: list[dict[str, Any]] = []
            while not [one for one in messages if one["type"] == "token"]:
                messages.append(json.loads(await client.recv()))
            process.send_signal(signal.SIGTERM)
            try:
                while True:
                    messages.append(json.loads(await client.recv()))
            except ConnectionClosed:
                pass
            assert client.close_code == 1012
        with anyio.fail_after(15):
            assert await process.wait() == 0
        written = await output_of(process)
    words = [one["text"] for one in messages if one["type"] == "token"]
    assert "".join(words) == " alpha bravo charlie"
    assert messages[-1]["code"] == "draining"
    events = [json.loads(line)["event"] for line in written.splitlines()]
    for event in ("listening", "stream_opened", "drain", "stream_closed", "ended"):
        assert event in events
    for secret in ("alpha", "bravo", "very-secret"):
        assert secret not in written


async def test_a_taken_port_is_an_error() -> None:
    async with FakeMoshiServer() as moshi:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            async with gateway(moshi, taken.getsockname()[1]) as process:
                with anyio.fail_after(30):
                    assert await process.wait() == 1
                assert "cannot_listen" in await output_of(process)


async def test_a_wrong_setting_is_an_error() -> None:
    environment = {"KYUTAI_GATEWAY_PORT": "many"}
    command = [sys.executable, "-m", "kyutai_gateway"]
    done = await anyio.run_process(command, env=environment, check=False)
    assert done.returncode == 2
    assert b"KYUTAI_GATEWAY_PORT" in done.stderr
    assert b"Traceback" not in done.stderr
