"""The real ExApp process when the signaling server is down or refuses it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import anyio
import httpx
from anyio.abc import TaskGroup, TaskStatus

from live_transcription.demo.stage import run_exapp
from spreed_signaling.testing import (
    EmbeddedHpb,
    Member,
    ServerKind,
    StandInNextcloud,
)
from spreed_signaling.testing.real import RealServers

ROOM = "demoroom"


class Hpb(Protocol):
    """A signaling server that can be down and come up at the same address."""

    url: str

    async def down(self) -> None: ...

    async def up(self, secret: str) -> None: ...


class RealHpb:
    def __init__(self, servers: RealServers) -> None:
        self._servers = servers
        self.url = servers.url

    async def down(self) -> None:
        await self._servers.stop_hpb()

    async def up(self, secret: str) -> None:
        await self._servers.start_hpb(internal_secret=secret)


class OwnHpb:
    """The embedded server; each run of it lives in a task of its own."""

    def __init__(self, nextcloud: StandInNextcloud, tasks: TaskGroup) -> None:
        self._nextcloud = nextcloud
        self._tasks = tasks
        self._stop = anyio.Event()
        self._stopped = anyio.Event()
        self.url = ""

    async def down(self) -> None:
        self._stop.set()
        await self._stopped.wait()

    async def up(self, secret: str) -> None:
        self._stop, self._stopped = anyio.Event(), anyio.Event()
        await self._tasks.start(self._serve, secret)

    async def _serve(self, secret: str, *, task_status: TaskStatus[None]) -> None:
        port = int(self.url.rpartition(":")[2]) if self.url else 0
        async with EmbeddedHpb(
            backend_url=self._nextcloud.url,
            backend_secret=self._nextcloud.backend_secret,
            internal_secret=secret,
            port=port,
        ) as server:
            self.url = server.url
            task_status.started()
            await self._stop.wait()
        self._stopped.set()


@asynccontextmanager
async def running_hpb(
    kind: ServerKind, nextcloud: StandInNextcloud, secret: str
) -> AsyncIterator[Hpb]:
    if kind == "real":
        async with RealServers(
            backend_url=nextcloud.url,
            backend_secret=nextcloud.backend_secret,
            internal_secret=secret,
        ) as servers:
            yield RealHpb(servers)
        return
    async with anyio.create_task_group() as tasks:
        own = OwnHpb(nextcloud, tasks)
        await own.up(secret)
        yield own
        tasks.cancel_scope.cancel()


async def press_cc(nextcloud: StandInNextcloud, member: Member) -> httpx.Response:
    """Talk's request, without its own check that the member is in the call."""
    body = {
        "roomToken": ROOM,
        "ncSessionId": member.nc_session_id,
        "enable": True,
    }
    return await nextcloud.exapp_request("POST", "/api/v1/call/transcribe", json=body)


async def wait_for_room(
    nextcloud: StandInNextcloud, fits: Callable[[dict[str, Any]], bool], limit_s: float
) -> dict[str, Any]:
    """Ask for the status until the room's part of it fits."""
    room: dict[str, Any] = {}
    with anyio.move_on_after(limit_s):
        while True:
            answer = await nextcloud.exapp_request("GET", "/api/v1/status")
            rooms = answer.json()["rooms"]
            room = rooms[0] if rooms else {}
            if fits(room):
                return room
            await anyio.sleep(0.05)
    raise AssertionError(f"the status did not become what was expected: {room}")


@asynccontextmanager
async def exapp(
    kind: ServerKind, hpb_secret: str, exapp_secret: str
) -> AsyncIterator[tuple[StandInNextcloud, Hpb, Member]]:
    async with (
        StandInNextcloud() as nextcloud,
        running_hpb(kind, nextcloud, hpb_secret) as hpb,
    ):
        nextcloud.add_room(ROOM)
        nextcloud.hpb_url = hpb.url
        async with run_exapp(
            nextcloud,
            hpb_url=hpb.url,
            internal_secret=exapp_secret,
            backend="activity",
            environment=os.environ,
        ):
            yield nextcloud, hpb, nextcloud.add_member(ROOM, "alice", "Alice")


async def test_the_server_is_down_and_comes_up(server_kind: ServerKind) -> None:
    async with exapp(server_kind, "right", "right") as (nextcloud, hpb, alice):
        await hpb.down()
        answer = await press_cc(nextcloud, alice)
        assert answer.status_code == 200
        assert answer.elapsed.total_seconds() < 1
        room = await wait_for_room(nextcloud, lambda room: bool(room["detail"]), 5)
        assert room["state"] == "connecting"
        assert "refused" in room["detail"]
        # Long enough that the pauses between attempts have reached their length.
        await anyio.sleep(5)
        await hpb.up("right")
        await wait_for_room(nextcloud, lambda room: room["state"] == "in call", 5)


async def test_a_wrong_secret_is_named_and_can_be_put_right(
    server_kind: ServerKind,
) -> None:
    async with exapp(server_kind, "right", "wrong") as (nextcloud, hpb, alice):
        assert (await press_cc(nextcloud, alice)).status_code == 200
        room = await wait_for_room(
            nextcloud, lambda room: room["state"] == "refused", 5
        )
        assert "internal secret" in room["detail"]
        assert "wrong" not in room["detail"].split()
        heartbeat = await nextcloud.exapp_request("GET", "/heartbeat")
        assert heartbeat.elapsed.total_seconds() < 1
        await hpb.down()
        await hpb.up("wrong")
        # Not by itself (that would be minutes later): because somebody asks again.
        assert (await press_cc(nextcloud, alice)).status_code == 200
        await wait_for_room(nextcloud, lambda room: room["state"] == "in call", 8)
