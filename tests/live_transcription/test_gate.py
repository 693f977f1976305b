# SPDX-License-Identifier: AGPL-3.0-or-later
"""Several rooms and one wrong internal secret: the server must not block us."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream, TaskGroup
from attrs import define, field

from kyutai_stream.testing import ScriptedBackend
from live_transcription.config import Settings
from live_transcription.gate import Gate, GateCore, GateRules, RetryBudget, Visitor
from live_transcription.supervisor import Supervisor
from spreed_signaling import IceServer, InternalSecretRefused, TooManyAttempts
from spreed_signaling.testing import EmbeddedHpb
from spreed_signaling.testing.hpb import HpbOptions

from .talk import ENVIRONMENT

ROOMS = ("one", "two", "three", "four")
SECRET = "the-internal-secret"
WRONG = InternalSecretRefused("invalid_token")
HOUR = 3600
WINDOW = 1800


def test_people_cannot_get_us_blocked() -> None:
    budget = RetryBudget(limit=3, window_s=1800, pause_s=1)
    taken = [at for at in range(0, 100) if budget.take(at / 2)]
    assert taken == [0, 2, 4]
    assert not budget.take(1799)
    assert budget.take(1801)


def visitors(count: int) -> list[Visitor]:
    return [Visitor(hurry=lambda: None) for _ in range(count)]


def refusals(core: GateCore, rooms: list[Visitor], press_every: int) -> Iterator[int]:
    """The times of all hellos within two hours; each one is refused at once."""
    for now in range(2 * HOUR):
        if press_every and now % press_every == 0:
            core.press(now)
        for room in rooms:
            if core.enter(room, now):
                yield now
                core.refused(room, WRONG, now)


@pytest.mark.parametrize("press_every", [0, 3, 100, 700])
def test_the_limit_is_never_reached(press_every: int) -> None:
    times = list(refusals(GateCore(GateRules()), visitors(20), press_every))
    assert len(times) >= 20
    for at in times:
        assert sum(at <= other < at + WINDOW for other in times) < 10
    if not press_every:
        pauses = [b - a for a, b in zip(times, times[1:], strict=False)]
        assert min(pauses) == 240


def test_a_press_helps_at_once_also_after_hours() -> None:
    core, (room,) = GateCore(GateRules()), visitors(1)
    last = max(refusals(core, [room], 0))
    assert not core.enter(room, last + 1)
    for again in (2, 4, 6):
        assert core.press(last + again)
        assert core.enter(room, last + again)
        core.refused(room, WRONG, last + again)


def test_one_tries_for_all_and_all_follow() -> None:
    core, (first, second, third) = GateCore(GateRules()), visitors(3)
    assert core.enter(first, 0)
    assert not core.enter(second, 5)
    core.leave(first)
    assert core.enter(second, 5)
    core.accepted()
    assert core.enter(first, 5) and core.enter(third, 5)
    core.refused(third, WRONG, 10)
    assert not any(core.may_stay(room) for room in (first, second, third))
    # A late answer to another room does not shorten the pause.
    core.refused(first, WRONG, 12)
    assert core.deadline() == 252


def test_a_block_is_waited_for() -> None:
    core, (room,) = GateCore(GateRules()), visitors(1)
    assert core.enter(room, 0)
    core.refused(room, TooManyAttempts("too_many_requests"), 0)
    assert core.deadline() == 1800
    assert core.press(1) and core.enter(room, 1)


@define
class Relay:
    """Stands before the server, so that every socket can be counted."""

    target: int = 0
    port: int = 0
    opened: list[float] = field(factory=list)

    async def serve(self, *, task_status: Any) -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            self.port = listener.extra(anyio.abc.SocketAttribute.local_port)
            task_status.started()
            await listener.serve(self._carry)

    async def _carry(self, near: SocketStream) -> None:
        self.opened.append(anyio.current_time())
        try:
            async with near, await anyio.connect_tcp("127.0.0.1", self.target) as far:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._pump, far, near, tasks)
                    await self._pump(near, far, tasks)
        except OSError:
            pass

    @staticmethod
    async def _pump(source: SocketStream, sink: SocketStream, tasks: TaskGroup) -> None:
        try:
            async for data in source:
                await sink.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        tasks.cancel_scope.cancel()


@define
class House:
    """Some rooms, their supervisor, and a server behind the relay."""

    supervisor: Supervisor
    relay: Relay
    tasks: TaskGroup
    hpb: EmbeddedHpb | None = None
    _stop: anyio.Event = field(factory=anyio.Event)
    _stopped: anyio.Event = field(factory=anyio.Event)

    async def up(self, secret: str) -> None:
        self._stop, self._stopped = anyio.Event(), anyio.Event()
        await self.tasks.start(self._serve, secret)

    async def down(self) -> None:
        self._stop.set()
        await self._stopped.wait()

    async def _serve(self, secret: str, *, task_status: Any) -> None:
        server = EmbeddedHpb(
            backend_url=ENVIRONMENT["NEXTCLOUD_URL"],
            backend_secret="shared",
            internal_secret=secret,
            port=self.relay.target,
            options=HpbOptions(throttle_first_s=0.01),
        )
        async with server:
            self.relay.target = int(server.url.rpartition(":")[2])
            task_status.started()
            await self._stop.wait()
        self._stopped.set()

    def press(self, *rooms: str) -> None:
        for room in rooms:
            self.supervisor.enable(room, "somebody", None)

    async def until(self, fits: Callable[[dict[str, Any]], bool]) -> list[Any]:
        """Wait until all rooms are as wanted."""
        with anyio.fail_after(8):
            while True:
                rooms = self.supervisor.status()["rooms"]
                if len(rooms) == len(ROOMS) and all(fits(room) for room in rooms):
                    return list(rooms)
                # The status has no way to wait for it.
                await anyio.sleep(0.02)


def is_refused(room: dict[str, Any]) -> bool:
    return bool(room["state"] == "refused")


def is_in_call(room: dict[str, Any]) -> bool:
    return bool(room["state"] == "in call")


async def no_ice() -> tuple[IceServer, ...]:
    return ()


@asynccontextmanager
async def house(rules: GateRules, secret: str) -> AsyncIterator[House]:
    relay = Relay()
    async with anyio.create_task_group() as tasks:
        await tasks.start(relay.serve)
        changes = {
            "LT_HPB_URL": f"http://127.0.0.1:{relay.port}",
            "LT_INTERNAL_SECRET": SECRET,
        }
        supervisor = Supervisor(
            Settings.from_environment({**ENVIRONMENT, **changes}),
            tasks,
            ice_servers=no_ice,
            backend=ScriptedBackend(),
            gate=Gate(rules),
        )
        opened = House(supervisor, relay, tasks)
        await opened.up(secret)
        yield opened
        await supervisor.close()
        tasks.cancel_scope.cancel()


def nobody() -> RetryBudget:
    return RetryBudget(limit=0)


async def test_rooms_share_their_attempts() -> None:
    rules = GateRules(pause_s=0.6, budget=nobody)
    async with house(rules, "another secret") as scene:
        scene.press(*ROOMS)
        await scene.until(is_refused)
        times = scene.relay.opened
        with anyio.fail_after(8):
            # One at once and three later ones; the relay tells of none of them.
            while len(times) < 4:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        pauses = [b - a for a, b in zip(times, times[1:], strict=False)]
        # The relay sees them a little late.
        assert min(pauses) > 0.5


async def test_who_is_refused_is_told_when_the_next_attempt_is() -> None:
    rules = GateRules(pause_s=0.2, budget=nobody)
    async with house(rules, "another secret") as scene:
        scene.press(*ROOMS)
        await scene.until(is_refused)
        end = anyio.current_time() + 0.8
        while anyio.current_time() < end:
            for room in scene.supervisor.status()["rooms"]:
                assert is_refused(room)
                assert "refused the internal secret" in room["detail"]
                assert room["detail"].endswith((" s", "; trying again now"))
            # At every step of the loop: also while a refused socket closes.
            await anyio.lowlevel.checkpoint()
        assert len(scene.relay.opened) >= 3


async def test_one_press_after_the_repair_brings_all_rooms() -> None:
    async with house(GateRules(), "another secret") as scene:
        scene.press(*ROOMS)
        await scene.until(is_refused)
        # The first room's, and not one for each of the others at the same time.
        assert len(scene.relay.opened) <= 2
        before = len(scene.relay.opened)
        await scene.down()
        await scene.up(SECRET)
        await anyio.sleep(1)
        assert len(scene.relay.opened) == before
        scene.press(ROOMS[-1])
        await scene.until(is_in_call)
        assert len(scene.relay.opened) == before + len(ROOMS)


async def test_a_secret_changed_during_calls() -> None:
    async with house(GateRules(), SECRET) as scene:
        scene.press(*ROOMS)
        await scene.until(is_in_call)
        await scene.down()
        await scene.until(lambda room: room["state"] == "reconnecting")
        await scene.up("another secret")
        await scene.until(is_refused)
        tried = len(scene.relay.opened)
        await anyio.sleep(2.5)
        assert len(scene.relay.opened) == tried
        await scene.down()
        await scene.up(SECRET)
        scene.press(ROOMS[0])
        await scene.until(is_in_call)


async def test_while_the_server_is_away_one_room_looks_for_it() -> None:
    async with house(GateRules(), SECRET) as scene:
        await scene.down()
        scene.press(*ROOMS)
        rooms = await scene.until(lambda room: bool(room["detail"]))
        assert {room["state"] for room in rooms} == {"connecting"}
        await anyio.sleep(1)
        assert len(scene.relay.opened) <= 4
        await scene.up(SECRET)
        # Who looked may leave: another one goes on.
        for room in scene.supervisor.status()["rooms"][:1]:
            scene.supervisor.leave(room["room_token"])
        scene.press(room["room_token"])
        await scene.until(is_in_call)
