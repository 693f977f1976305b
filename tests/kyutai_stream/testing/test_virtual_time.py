from __future__ import annotations

import asyncio
import functools
import threading
import time

import anyio
import anyio.to_thread
import pytest
from anyio.abc import SocketStream
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError

from kyutai_stream.testing.virtual_time import (
    VirtualDeadlock,
    VirtualTimeLoop,
    run_virtual,
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


async def _ignore(stream: SocketStream) -> None:
    await stream.aclose()


def _slow() -> int:
    time.sleep(0.05)
    return 7


async def test_an_hour_takes_no_time() -> None:
    began, really = anyio.current_time(), time.monotonic()
    await anyio.sleep(3600)
    assert anyio.current_time() - began == pytest.approx(3600)
    assert time.monotonic() - really < 1


async def test_timers_fire_in_order_and_at_their_time() -> None:
    seen: list[tuple[str, float]] = []
    start = anyio.current_time()

    async def say(name: str, after: float) -> None:
        await anyio.sleep(after)
        seen.append((name, anyio.current_time() - start))

    async with anyio.create_task_group() as tasks:
        for name, after in (("c", 70), ("a", 0.08), ("b", 0.081)):
            tasks.start_soon(say, name, after)
    assert [name for name, _ in seen] == ["a", "b", "c"]
    assert [at for _, at in seen] == pytest.approx([0.08, 0.081, 70])


async def test_time_outs_follow() -> None:
    began = anyio.current_time()
    with pytest.raises(TimeoutError):
        with anyio.fail_after(120):
            await anyio.sleep_forever()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await anyio.sleep_forever()
    assert anyio.current_time() - began == pytest.approx(180)


async def test_sockets_are_heard_before_the_clock_jumps() -> None:
    """A reply over loopback must beat a timer, however near that is."""

    async def echo(stream: SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, echo)
            async with await anyio.connect_tcp("127.0.0.1", port) as client:
                start = anyio.current_time()
                for _ in range(200):
                    await client.send(b"x" * 9_619)
                    received = 0
                    while received < 9_619:
                        with anyio.fail_after(0.001):
                            received += len(await client.receive())
                assert anyio.current_time() - start < 0.05
            tasks.cancel_scope.cancel()


async def test_the_keepalive_of_websockets_follows() -> None:
    """A peer that never answers a ping is given up after 20 + 20 virtual seconds."""
    release = anyio.Event()

    async def deaf(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await release.wait()

    async with serve(deaf, "127.0.0.1", 0, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        start = anyio.current_time()
        # The closing handshake cannot work here either; it has its own time-out.
        async with connect(f"ws://127.0.0.1:{port}", close_timeout=1) as client:
            with pytest.raises(ConnectionClosedError):
                await client.recv()
            assert 39 < anyio.current_time() - start < 45
        release.set()


@pytest.mark.parametrize("limited", [False, True])
async def test_the_clock_stands_still_while_a_worker_thread_runs(limited: bool) -> None:
    limiter = anyio.CapacityLimiter(1) if limited else None
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await anyio.sleep(5)
            ticks.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        # Twice: the second call finds the thread of the first one waiting.
        for _ in range(2):
            start = anyio.current_time()
            await anyio.to_thread.run_sync(time.sleep, 0.05, limiter=limiter)
            assert anyio.current_time() - start == 0
        assert not ticks
        # The idle thread that anyio keeps does not stop the clock.
        await anyio.sleep(12)
        assert len(ticks) == 2
        tasks.cancel_scope.cancel()


async def test_the_clock_stands_still_for_an_executor() -> None:
    loop = asyncio.get_running_loop()
    start = anyio.current_time()
    with anyio.move_on_after(1) as scope:
        assert await loop.run_in_executor(None, _slow) == 7
    assert not scope.cancelled_caught
    assert anyio.current_time() == start


async def test_a_name_look_up_does_not_time_out() -> None:
    with anyio.fail_after(0.01):
        assert await anyio.getaddrinfo("localhost", 80)


async def test_a_held_clock_waits_for_a_foreign_thread() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    done = asyncio.Event()

    def work() -> None:
        time.sleep(0.05)
        loop.call_soon_threadsafe(done.set)

    thread = threading.Thread(target=work)
    thread.start()
    with loop.held(), anyio.fail_after(1):
        await done.wait()
    thread.join()


async def test_advance_makes_everything_in_between_due() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    start = anyio.current_time()
    with anyio.move_on_after(50) as scope:
        loop.advance(60)
        await anyio.sleep(1)
    assert scope.cancelled_caught
    assert anyio.current_time() - start == 60
    with pytest.raises(ValueError):
        loop.advance(-1)


def test_run_virtual_returns_and_raises() -> None:
    async def later(value: int) -> int:
        await anyio.sleep(1_000)
        return value

    async def broken() -> None:
        raise KeyError("x")

    assert run_virtual(later, 3) == 3
    with pytest.raises(KeyError):
        run_virtual(broken)


def test_a_dead_lock_is_an_error_not_a_hang() -> None:
    with pytest.raises(VirtualDeadlock, match="no timer, socket or thread"):
        run_virtual(anyio.sleep_forever)


def test_a_silent_socket_is_given_a_while_then_is_a_dead_lock() -> None:
    async def wait_for_a_client() -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            await listener.serve(_ignore)

    factory = functools.partial(VirtualTimeLoop, real_limit_s=0.1)
    with pytest.raises(VirtualDeadlock, match=r"0\.1 real seconds"):
        run_virtual(wait_for_a_client, loop_factory=factory)


def test_timers_alone_do_not_go_on_for_ever() -> None:
    async def periodic() -> None:
        for _ in range(1_000_000):
            await anyio.sleep(20)

    factory = functools.partial(VirtualTimeLoop, horizon_s=3_600)
    with pytest.raises(VirtualDeadlock, match="horizon_s"):
        run_virtual(periodic, loop_factory=factory)


def test_every_pending_task_is_cancelled_after_a_dead_lock() -> None:
    ended: list[str] = []

    async def stuck() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("stuck")

    with pytest.raises(VirtualDeadlock):
        run_virtual(stuck)
    assert ended == ["stuck"]
