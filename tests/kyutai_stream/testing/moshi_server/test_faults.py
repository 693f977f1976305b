"""Every fault, as a client meets it."""

from __future__ import annotations

import anyio
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kyutai_stream.testing import FakeMoshiServer
from kyutai_stream.testing.moshi_server import ConnectionPlan, Model

from .raw_client import FRAMES, SILENCE, SPOKEN, client_of, say


class TestListening:
    async def test_it_refuses_while_it_does_not_listen(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            port = server.port
            await server.stop_listening()
            with pytest.raises(OSError):
                async with client_of(server.url):
                    pass
            # Open connections go on.
            await say(client)
            await server.start_listening()
            assert server.port == port
            async with client_of(server.url):
                pass

    async def test_restart(self) -> None:
        async with FakeMoshiServer() as server:
            async with client_of(server.url) as client, anyio.create_task_group() as t:
                await say(client)
                start = anyio.current_time()
                t.start_soon(server.restart, 30.0)
                assert await client.rest() == "none"
                with pytest.raises(OSError):
                    async with client_of(server.url):
                        pass
            assert anyio.current_time() - start == pytest.approx(30, abs=0.1)
            assert (server.used_slots, server.total_steps) == (0, 0)
            async with client_of(server.url) as client:
                await say(client)
                assert client.of("Step")[0]["step_idx"] == 3
            assert len(server.connections) == 2

    async def test_a_restart_kills_handshakes_too(self) -> None:
        plan = ConnectionPlan(accept_delay_s=60)
        async with FakeMoshiServer(plans=[plan]) as server:
            async with anyio.create_task_group() as tasks:

                async def restart() -> None:
                    await anyio.sleep(1)
                    await server.restart()

                tasks.start_soon(restart)
                with pytest.raises(Exception, match="did not receive|reset|closed"):
                    async with client_of(server.url, open_timeout=30):
                        pass

    async def test_slow_accept(self) -> None:
        plan = ConnectionPlan(accept_delay_s=7)
        async with FakeMoshiServer(plans=[plan]) as server:
            start = anyio.current_time()
            async with client_of(server.url):
                assert anyio.current_time() - start == pytest.approx(7, abs=0.1)
            server.plan_next(plan)
            with pytest.raises(TimeoutError):
                async with client_of(server.url, open_timeout=5):
                    pass


class TestRefusals:
    @pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
    async def test_a_status(self, status: int) -> None:
        async with FakeMoshiServer(plans=[ConnectionPlan(status=status)]) as server:
            with pytest.raises(InvalidStatus) as caught:
                async with client_of(server.url):
                    pass
            assert caught.value.response.status_code == status
            async with client_of(server.url):
                pass

    async def test_full_for_one_and_for_all(self) -> None:
        async with FakeMoshiServer(plans=[ConnectionPlan(full=True)]) as server:
            for full in (True, False, True):
                if len(server.connections) == 2:
                    server.full = True
                async with client_of(server.url, ready=False) as client:
                    if full:
                        assert await client.rest() == "1005"
                        assert client.log[0]["message"] == "no free channels"
                    else:
                        assert await client.next() == {"type": "Ready"}
            await server.wait_until(lambda: server.used_slots == 0)

    @pytest.mark.parametrize(
        ("code", "seen"), [(1000, "1000"), (1013, "1013"), (1005, "1005")]
    )
    async def test_accept_then_close(self, code: int, seen: str) -> None:
        plan = ConnectionPlan(close_at_once=code)
        async with FakeMoshiServer(plans=[plan]) as server:
            async with client_of(server.url, ready=False) as client:
                assert await client.rest() == seen
                assert client.log == []
            assert server.used_slots == 0

    async def test_accept_then_nothing(self) -> None:
        plan = ConnectionPlan(close_at_once=1006)
        async with FakeMoshiServer(plans=[plan]) as server:
            async with client_of(server.url, ready=False) as client:
                assert await client.rest() == "none"


class TestWedged:
    async def test_one_connection_is_never_served(self) -> None:
        async with FakeMoshiServer(plans=[ConnectionPlan(wedged=True)]) as server:
            async with client_of(server.url, ready=False) as client:
                await client.send(SILENCE)
                with pytest.raises(TimeoutError):
                    await client.next(timeout_s=100)
                async with client_of(server.url) as healthy:
                    await say(healthy)
                assert server.used_slots >= 1
            await server.wait_until(lambda: server.used_slots == 0)

    async def test_a_dead_model_loop_keeps_the_port_and_its_slots(self) -> None:
        async with FakeMoshiServer(Model(batch_size=2)) as server:
            server.wedge()
            for _ in range(2):
                async with client_of(server.url, ready=False) as client:
                    with pytest.raises(TimeoutError):
                        await client.next(timeout_s=5)
            assert server.used_slots == 2
            async with client_of(server.url, ready=False) as client:
                assert (await client.next())["type"] == "Error"
            await server.restart()
            async with client_of(server.url) as client:
                await say(client)

    async def test_ready_may_come_late(self) -> None:
        async with FakeMoshiServer(plans=[ConnectionPlan(ready_delay_s=60)]) as server:
            async with client_of(server.url, ready=False) as client:
                start = anyio.current_time()
                await client.send(*FRAMES)
                assert (await client.next(timeout_s=70))["type"] == "Ready"
                assert anyio.current_time() - start == pytest.approx(60, abs=0.1)
                await client.steps(len(FRAMES))
                assert client.words == SPOKEN.text.split()


class TestCuts:
    @pytest.mark.parametrize("count", [0, 1, 10, len(FRAMES)])
    async def test_after_frames(self, count: int) -> None:
        plan = ConnectionPlan(cut_after_frames=count)
        async with FakeMoshiServer(plans=[plan]) as server:
            async with client_of(server.url, ready=False) as client:
                try:
                    # Frames may come in before Ready goes out.
                    await client.send(*FRAMES[: len(FRAMES) * bool(count)])
                except ConnectionClosed:
                    pass
                assert await client.rest() == "none"
            [connection] = server.connections
            assert connection.frames == count
            assert connection.end == f"cut after {count} frames"
            await server.wait_until(lambda: server.used_slots == 0)
            assert server.total_steps <= count

    async def test_after_steps(self) -> None:
        plan = ConnectionPlan(cut_after_steps=20)
        async with FakeMoshiServer(plans=[plan]) as server:
            async with client_of(server.url) as client:
                await say(client, wait=False)
                assert await client.rest() == "none"
            assert server.connections[0].steps == 20
            assert server.connections[0].frames == len(FRAMES)

    async def test_at_any_time(self) -> None:
        async with FakeMoshiServer() as server:
            async with client_of(server.url) as one, client_of(server.url) as two:
                server.connections[0].cut()
                assert await one.rest() == "none"
                await say(two)
                server.cut_all()
                assert await two.rest() == "none"

    async def test_a_live_close(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            await server.connections[0].close(1012)
            assert await client.rest() == "1012"


class TestSilentPeers:
    async def test_half_open_for_a_while(self) -> None:
        """Short enough that the server does not notice: all comes late."""
        plan = ConnectionPlan(half_open_after_frames=10, half_open_s=15)
        async with FakeMoshiServer(plans=[plan]) as server:
            async with client_of(server.url) as client:
                start = anyio.current_time()
                await say(client, wait=False)
                with pytest.raises(TimeoutError):
                    await client.next(timeout_s=14)
                await client.steps(len(FRAMES))
                assert 15 < anyio.current_time() - start < 20
                assert client.words == SPOKEN.text.split()

    async def test_half_open_longer_than_the_servers_patience(self) -> None:
        async with FakeMoshiServer() as server:
            async with client_of(server.url) as client:
                await say(client)
                [connection] = server.connections
                connection.half_open()
                await server.wait_until(lambda: server.used_slots == 0, timeout_s=30)
                # The client sees nothing of that.
                with pytest.raises(TimeoutError):
                    await client.next(timeout_s=100)
                assert connection.open
                connection.heal()
                assert await client.rest() == "none"
            assert connection.end == "given up while half-open"

    async def test_the_server_can_end_with_a_half_open_connection(self) -> None:
        async with FakeMoshiServer() as server:
            async with client_of(server.url) as client:
                server.connections[0].half_open()
                await client.send(*FRAMES)

    async def test_stop_reading(self) -> None:
        plan = ConnectionPlan(stop_reading_after_frames=10)
        async with FakeMoshiServer(plans=[plan]) as server:
            async with client_of(server.url) as client:
                blocked = False
                with anyio.move_on_after(5) as scope:
                    for _ in range(100):
                        await client.send(*FRAMES)
                blocked = scope.cancelled_caught
                # Several megabytes of buffers, then the client must wait.
                assert blocked
                assert server.connections[0].frames < 100


class TestStrangeMessages:
    async def test_they_come_between_the_others(self) -> None:
        plan = ConnectionPlan(
            garbage_after_frames=5, unknown_after_frames=6, text_after_frames=7
        )
        async with FakeMoshiServer(plans=[plan]) as server:
            async with client_of(server.url) as client:
                await say(client)
                server.connections[0].inject(b"\x00")
                server.connections[0].inject("live")
                await client.send(SILENCE)
                await client.steps(len(FRAMES) + 1)
                assert len(client.garbage) == 2
                assert client.count("Surprise!") == 1
                assert client.texts == ['{"type":"Ready"}', "live"]
                assert client.words == SPOKEN.text.split()


class TestStalls:
    async def test_the_model_loop_stands_still(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            server.stall()
            await say(client, wait=False)
            with pytest.raises(TimeoutError):
                await client.next(timeout_s=15)
            server.resume()
            await client.steps(len(FRAMES))
            assert client.words == SPOKEN.text.split()

    async def test_deaf_until_reset(self) -> None:
        plan = ConnectionPlan(deaf_after_frames=1)
        async with FakeMoshiServer(plans=[plan]) as server:
            async with client_of(server.url) as client:
                await say(client)
                assert client.words == []
                await client.send({"type": "Init"}, *FRAMES)
                await client.steps(2 * len(FRAMES))
                assert client.words == SPOKEN.text.split()
                server.connections[0].deafen()
                await client.send(*FRAMES)
                await client.steps(3 * len(FRAMES))
                assert client.words == SPOKEN.text.split()
            async with client_of(server.url) as client:
                await say(client)
                assert client.words == SPOKEN.text.split()

    async def test_slower_than_real_time(self) -> None:
        async with FakeMoshiServer(speed=0.5) as server:
            async with client_of(server.url) as client:
                start = anyio.current_time()
                for frame in FRAMES:
                    await client.send(frame)
                    await anyio.sleep(0.08)
                lag = len(FRAMES) - server.total_steps
                assert lag == pytest.approx(len(FRAMES) / 2, abs=2)
                await client.steps(len(FRAMES))
                took = anyio.current_time() - start
                assert took == pytest.approx(len(FRAMES) * 0.16, abs=0.1)
