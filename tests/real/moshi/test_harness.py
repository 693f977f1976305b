"""The harness: the server comes up, hangs and dies on demand, leaves nothing."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from pathlib import Path

import anyio
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from kyutai_stream.testing.real import (
    MoshiServerUnavailable,
    RealMoshiServer,
    ServerStartFailed,
    unavailable_reason,
)
from kyutai_stream.testing.real.__main__ import main
from kyutai_stream.testing.real.raw import open_raw

pytestmark = [pytest.mark.moshi, pytest.mark.timeout(120)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except OSError:
        return False


async def test_it_restarts_at_the_same_address(scripted: RealMoshiServer) -> None:
    first = scripted.pid
    async with open_raw(scripted.url, scripted.api_key) as stream:
        await scripted.restart(kill=True)
        with pytest.raises(ConnectionClosed):
            await stream.next()
    assert scripted.pid != first and not alive(first)
    assert await scripted.used_slots() == 0
    async with open_raw(scripted.url, scripted.api_key) as stream:
        await stream.audio(np.zeros(1920, np.float32))
        await stream.until_steps(1)


async def test_a_stopped_server_refuses_connections(scripted: RealMoshiServer) -> None:
    await scripted.stop()
    with pytest.raises(OSError):
        await scripted.used_slots()
    await scripted.stop()
    await scripted.start()
    assert await scripted.used_slots() == 0


async def test_a_paused_server_keeps_its_sockets(scripted: RealMoshiServer) -> None:
    async with open_raw(scripted.url, scripted.api_key) as stream:
        scripted.pause()
        await stream.audio(np.zeros(1920 * 3, np.float32))
        with pytest.raises(TimeoutError):
            await stream.next(1.0)
        scripted.resume()
        await stream.until_steps(3)


async def test_a_paused_server_can_be_ended(scripted: RealMoshiServer) -> None:
    scripted.pause()
    with anyio.fail_after(10):
        await scripted.restart()
    assert await scripted.used_slots() == 0


async def test_nothing_is_left_behind(moshi_ready: None) -> None:
    async with RealMoshiServer() as server:
        pid, folder = server.pid, server.log_path.parent
        assert "listening on" in server.log_path.read_text()
    assert not alive(pid)
    assert not folder.exists()
    with pytest.raises(AssertionError):
        server.log_path  # noqa: B018  # the property itself is the test


async def test_a_cancelled_start_leaves_nothing(moshi_ready: None) -> None:
    server = RealMoshiServer()

    async def enter() -> None:
        async with server:
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(enter)
        while server._process is None:  # noqa: ASYNC110  # no event tells
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert server._process is None and server._folder is None


async def test_it_ends_with_a_killed_test_run(moshi_ready: None) -> None:
    code = textwrap.dedent("""
        import anyio
        from kyutai_stream.testing.real import RealMoshiServer

        async def main():
            async with RealMoshiServer() as server:
                print(server.pid, flush=True)
                await anyio.sleep_forever()

        anyio.run(main)
    """)
    async with await anyio.open_process([sys.executable, "-c", code]) as process:
        assert process.stdout is not None
        pid = int(await process.stdout.receive())
        assert alive(pid)
        os.kill(process.pid, signal.SIGKILL)
        with anyio.fail_after(5):
            while alive(pid):  # noqa: ASYNC110  # the kernel sends no event
                await anyio.sleep(0.01)


async def test_a_taken_port_is_said(scripted: RealMoshiServer) -> None:
    with pytest.raises(ServerStartFailed, match="ended with status 1"):
        async with RealMoshiServer(port=scripted.port):
            pass


async def test_without_a_build_it_says_what_to_do(tmp_path: Path) -> None:
    reason = unavailable_reason(tmp_path)
    assert reason is not None
    assert "kyutai_stream.testing.real prepare" in reason
    with pytest.raises(MoshiServerUnavailable, match="not built"):
        async with RealMoshiServer(cache=tmp_path):
            pass


def test_the_command_tells_the_state(
    moshi_ready: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status"]) == 0
    assert capsys.readouterr().out.startswith("ready")
