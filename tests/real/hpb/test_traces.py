"""Nothing of the real servers outlives them."""

from __future__ import annotations

import sys
import textwrap

import anyio
import pytest

from spreed_signaling.testing._serve import bind_socket
from spreed_signaling.testing.nextcloud import StandInNextcloud
from spreed_signaling.testing.real import ServerStartFailed

from .servers import Traces, make_servers

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


class TestNothingIsLeft:
    async def test_after_a_normal_end(self, nc: StandInNextcloud) -> None:
        async with make_servers(nc) as servers:
            traces = Traces.of(servers)
            # Janus, the signaling server and their folder at least.
            assert len(traces.all()) >= 3
        assert traces.all() == []

    async def test_after_cancellation(self, nc: StandInNextcloud) -> None:
        with anyio.CancelScope() as scope:
            async with make_servers(nc) as servers:
                traces = Traces.of(servers)
                scope.cancel()
                await anyio.sleep_forever()
        assert traces.all() == []

    async def test_after_a_failed_start(self, nc: StandInNextcloud) -> None:
        with bind_socket() as taken:
            taken.listen()
            servers = make_servers(nc, port=taken.getsockname()[1])
            with pytest.raises(ServerStartFailed, match="address already in use"):
                async with servers:
                    raise AssertionError("started on a taken port")
        assert Traces.of(servers).all() == []

    async def test_after_sigkill(self) -> None:
        program = textwrap.dedent(
            """
            import anyio
            from spreed_signaling.testing.real import RealServers

            async def main() -> None:
                async with RealServers(
                    backend_url="http://127.0.0.1:9", backend_secret="s"
                ) as servers:
                    interface = getattr(servers._network, "interface", "")
                    print(servers._folder.path, interface, flush=True)
                    await anyio.sleep_forever()

            anyio.run(main)
            """
        )
        command = [sys.executable, "-c", program]
        async with await anyio.open_process(command, stderr=None) as child:
            try:
                assert child.stdout is not None
                with anyio.fail_after(30):
                    line = (await child.stdout.receive()).decode()
                folder, _, interface = line.strip().partition(" ")
                traces = Traces(folder, interface)
                assert len(traces.running()) >= 2
            finally:
                child.kill()
        # The kernel ends the servers and takes the interfaces apart; only the
        # folder stays, until the next run sweeps it away.
        with anyio.fail_after(5):
            while traces.running():  # noqa: ASYNC110  # the kernel has no event
                await anyio.sleep(0.05)
        assert traces.all() == [folder]
        async with StandInNextcloud() as nc, make_servers(nc):
            assert traces.all() == []
