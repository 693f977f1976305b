"""The command, in a process of its own and in real time."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import anyio
import pytest
from anyio.streams.text import TextReceiveStream
from websockets.asyncio.client import connect

from kyutai_stream.testing.cassettes import Cassette
from kyutai_stream.testing.cassettes.__main__ import main
from kyutai_stream.testing.gateway import FakeGateway

COMMAND = [sys.executable, "-m", "kyutai_stream.testing.cassettes"]


async def test_record_and_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.jsonl"
    async with FakeGateway() as gateway:
        arguments = ["record", "--upstream", gateway.url, "--listen", "0", str(path)]
        async with await anyio.open_process([*COMMAND, *arguments]) as process:
            assert process.stderr is not None
            said = ""
            with anyio.fail_after(30):
                async for text in TextReceiveStream(process.stderr):
                    said += text
                    if "\n" in said:
                        break
                found = re.search(r"ws://\S+(?=;)", said)
                assert found is not None
                async with connect(found[0]) as socket:
                    await socket.send(bytes(4 * 1920))
                    await socket.send(b"EOS")
                    while '"end"' not in str(await socket.recv()):
                        pass
                process.send_signal(signal.SIGINT)
                await process.wait()
            assert process.returncode == 0
    assert Cassette.load(path).entries[-1].code == 1000
    assert main(["show", str(path)]) == 0
    assert "client binary" in capsys.readouterr().err


def test_wrong_files_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(tmp_path / "missing")]) == 1
    (tmp_path / "empty").touch()
    assert main(["play", str(tmp_path / "empty")]) == 1
    assert capsys.readouterr().err.count("error: ") == 2
