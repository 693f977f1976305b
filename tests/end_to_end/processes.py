"""The gateway and the demo as processes of their own, and the gateway's real child."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from kyutai_stream.testing.tones import VOCABULARY

KEY, SECRET = "wk-demo-key", "ws-demo-secret"
CREDENTIALS = {"MODAL_KEY": KEY, "MODAL_SECRET": SECRET}
READY_S = 30.0
END_S = 20.0


class GatewayProcess:
    """`python -m kyutai_gateway`, at one address all along.

    Args:
        settings: Variables without their prefix.
        printed: File for what it prints.
    """

    def __init__(self, settings: Mapping[str, str], printed: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        common = {
            "PORT": str(self._port),
            "KEY": KEY,
            "SECRET": SECRET,
            "DRAIN_S": "1",
            "LOG_LEVEL": "debug",
        }
        own = {**common, **settings}
        self._environment = {
            **os.environ,
            **{f"KYUTAI_GATEWAY_{name}": value for name, value in own.items()},
            # Where it keeps the configuration of its child.
            "TMPDIR": str(printed.parent),
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

    async def start(self, ready_s: float = READY_S) -> None:
        with self._printed.open("a") as printed:
            self._process = await anyio.open_process(
                [sys.executable, "-m", "kyutai_gateway"],
                env=self._environment,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
        async with httpx.AsyncClient(trust_env=False) as client:
            with anyio.fail_after(ready_s):
                while not await self._is_ready(client):
                    assert self._process.returncode is None, "it has ended"
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
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(number)
        with anyio.move_on_after(END_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
        await process.aclose()

    async def restart(self, number: signal.Signals) -> None:
        await self.end(number)
        await self.start()

    def children(self) -> dict[int, str]:
        """Its child processes: what they run, by process id."""
        assert self._process is not None
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                # After the name, which may hold anything: state, parent.
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                command = (folder / "cmdline").read_text().partition("\0")[0]
            except OSError:
                continue
            if int(parent) == self._process.pid:
                found[int(folder.name)] = Path(command).name
        return found


@asynccontextmanager
async def running_gateway(
    folder: Path, settings: Mapping[str, str], ready_s: float = READY_S
) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(settings, folder / "gateway.log")
    try:
        await gateway.start(ready_s)
        yield gateway
    finally:
        with anyio.CancelScope(shield=True):
            await gateway.end(signal.SIGTERM)
        # Shown where the test has failed.
        print(gateway.log)  # noqa: T201


def attached(server_url: str) -> dict[str, str]:
    """Settings of a gateway for a server that runs already."""
    return {"ATTACH_URL": server_url, "SLOTS": "2"}


SHIM = """\
#!{python} -IS
import os, sys

before, path, own = sys.argv[1:3], sys.argv[3], sys.argv[4:]
assert before == ["worker", "--config"], sys.argv
with open(path) as file:
    text = file.read().partition("[modules.asr.model]")[0]
path += ".generated"
with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
    file.write(text + {model!r})
os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))
os.execv({server!r}, [{server!r}, *before, path, *own])
"""
"""Becomes the real server, told that its weights are smaller than the published ones:
that is the one thing that the gateway has no setting for."""


async def supervised(folder: Path, slots: int) -> dict[str, str]:
    """Settings of a gateway with a real moshi-server of its own, on the CPU.

    Its weights are generated and hear the words of tones.
    """
    # The harness knows where everything is and how large the weights are.
    from kyutai_stream.testing.real._build import default_cache, find_server
    from kyutai_stream.testing.real._config import server_config
    from kyutai_stream.testing.real._weights import ensure_weights, model_files

    cache = default_cache()
    binary = find_server(cache)
    assert binary is not None
    files = model_files(await ensure_weights(cache, lambda line: None), "listen")
    known = server_config(files, folder=folder, batch_size=slots, extra_heads=True)
    model = "".join(known.partition("[modules.asr.model]")[1:])
    (codebooks,) = re.findall(r"audio_codebooks = (\d+)", model)
    shim = folder / "moshi-server"
    shim.write_text(
        SHIM.format(python=sys.executable, model=model, server=str(binary.path))
    )
    shim.chmod(0o700)
    return {
        "MOSHI_SERVER": str(shim),
        "LIBRARY_PATH": binary.library_folder,
        "DEVICE": "cpu",
        "DTYPE": "f32",
        "LM_FILE": str(files.lm),
        "MIMI_FILE": str(files.mimi),
        "TOKENIZER_FILE": str(files.tokenizer),
        "CODEBOOKS": codebooks,
        "SLOTS": str(slots),
        # A busy machine is no reason to restart it.
        "READY_TIMEOUT_S": "60",
        "RESTART_BACKOFF_S": "0.1",
    }


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
    folder: Path, *arguments: str, secrets: Mapping[str, str]
) -> AsyncIterator[tuple[Demo, Process]]:
    """Run the demo; what it says to people is in `folder / "demo.log"`."""
    command = [sys.executable, "-m", "live_transcription", "demo"]
    command += ["--json", "--no-page", "--voice", "tones", *arguments]
    printed = folder / "demo.log"
    with printed.open("w") as errors:
        process = await anyio.open_process(
            command, env={**os.environ, **secrets}, stderr=errors
        )
    demo = Demo(process)
    try:
        yield demo, process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.aclose()
        # Shown where the test has failed.
        print(printed.read_text(), *demo.records, sep="\n")  # noqa: T201


async def whole_demo(
    folder: Path, *arguments: str, secrets: Mapping[str, str]
) -> tuple[int, list[dict[str, Any]], str]:
    """Run a demo to its end; its exit status, records and errors."""
    async with running_demo(folder, *arguments, secrets=secrets) as (demo, process):
        await demo.hear_all()
        status = await process.wait()
    return status, demo.records, (folder / "demo.log").read_text()


def require_exact(records: list[dict[str, Any]], talkers: int) -> None:
    summary = records[-1]
    assert summary["exact"] is True, summary
    assert [talker["exact"] for talker in summary["talkers"]] == [True] * talkers


def words_in(log: str) -> set[str]:
    """Words of the vocabulary in a log."""
    return set(re.findall(r"[a-z]+", log.lower())) & set(VOCABULARY)
