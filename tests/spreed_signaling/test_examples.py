"""The examples and the README's snippet do what they say."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.text import TextReceiveStream

from spreed_signaling import DataReceived, connect
from spreed_signaling.testing import Site, open_site

from .harness import ROOM, next_of, wait_until
from .media.people import in_call, speak, write_tone

PACKAGE = Path(__file__).parents[2] / "packages" / "spreed-signaling"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site("embedded") as opened:
        yield opened


class Program:
    """A running example and the lines it prints."""

    def __init__(self, output: TextReceiveStream) -> None:
        self._output = output
        self._text = ""

    async def wait_for(self, pattern: str) -> re.Match[str]:
        with anyio.fail_after(20):
            while not (found := re.search(pattern, self._text)):
                self._text += await self._output.receive()
        return found


@asynccontextmanager
async def run_example(name: str, site: Site, tmp_path: Path) -> AsyncIterator[Program]:
    secret = tmp_path / "secret.txt"
    secret.write_text(site.server.internal_secret + "\n")
    command = [
        sys.executable, str(PACKAGE / "examples" / name),
        "--url", site.server.url, "--backend", site.nextcloud.url,
        "--secret-file", str(secret), "--room", ROOM,
    ]  # fmt: skip
    process = await anyio.open_process(command, stderr=None)
    try:
        assert process.stdout is not None
        yield Program(TextReceiveStream(process.stdout))
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def test_listen(site: Site, tmp_path: Path) -> None:
    alice = site.nextcloud.add_member(ROOM, "alice", "Alice")
    tone = write_tone(tmp_path / "tone.wav", 440)
    async with run_example("listen.py", site, tmp_path) as program:
        async with in_call(site.server.url, site.nextcloud, alice) as person:
            await speak(person, tone)
            await program.wait_for("Alice can be heard")
            # A sine with a peak of 0.4: -11 dBFS.
            level = await program.wait_for(r"Alice +(-1\d\.\d) dBFS")
            assert -13 < float(level[1]) < -9
        await program.wait_for("Alice is gone")


async def test_echo_text(site: Site, tmp_path: Path) -> None:
    alice = site.nextcloud.add_member(ROOM, "alice", "Alice")
    async with run_example("echo_text.py", site, tmp_path) as program:
        await program.wait_for("joined with 0 others")
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            client = await enter(connect(site.server.url, alice.auth))
            room = await enter(client.join(ROOM, nc_session_id=alice.nc_session_id))
            await program.wait_for("Alice came")
            events = stack.enter_context(client.subscribe())
            # The others are listed a moment after we are in.
            await wait_until(client, lambda: room.participants)
            (bot,) = room.participants
            room.send_data(bot, {"type": "echo", "text": "hello"})
            answer = await next_of(events, DataReceived)
            assert answer.data == {"type": "echoed", "text": "hello"}
        await program.wait_for("Alice left")


async def test_the_snippet_of_the_readme(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (PACKAGE / "README.md").read_text()
    assert len(readme.splitlines()) <= 60
    (snippet,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len([line for line in snippet.splitlines() if line]) <= 12
    names: dict[str, Any] = {}
    exec(compile(snippet, "README.md", "exec"), names)
    alice = site.nextcloud.add_member(ROOM, "alice", "Alice")
    tone = write_tone(tmp_path / "tone.wav", 440)
    server, nextcloud = site.server, site.nextcloud
    printed = ""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            names["listen"], server.url, server.internal_secret, nextcloud.url, ROOM
        )
        async with in_call(server.url, nextcloud, alice) as person:
            await speak(person, tone)
            with anyio.fail_after(20):
                while "Alice 0." not in printed:
                    await anyio.lowlevel.checkpoint()
                    printed += capsys.readouterr().out
        tasks.cancel_scope.cancel()
