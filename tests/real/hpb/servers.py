"""Servers to start, what they leave behind, and the plainest client of theirs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import anyio
from websockets.asyncio.client import ClientConnection, connect

from spreed_signaling.protocol.auth import InternalAuth, TicketAuth, TokenAuth
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud
from spreed_signaling.testing.real import RealServers


def make_servers(nc: StandInNextcloud, **options: Any) -> RealServers:
    return RealServers(
        backend_url=nc.url,
        backend_secret=nc.backend_secret,
        internal_secret="first-secret",
        **options,
    )


class Traces:
    """What one run puts on this machine; other runs may be going on beside it."""

    def __init__(self, folder: str, interface: str) -> None:
        self.folder = folder
        self.interface = interface

    @classmethod
    def of(cls, servers: RealServers) -> Traces:
        assert servers._folder is not None
        interface = getattr(servers._network, "interface", "")
        return cls(str(servers._folder.path), interface)

    def running(self) -> list[str]:
        """Processes and interfaces that are there."""
        interfaces = [name for _, name in socket.if_nameindex()]
        found = [name for name in interfaces if name == self.interface]
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.folder.encode() in (process / "cmdline").read_bytes():
                    found.append(process.name)
        return found

    def all(self) -> list[str]:
        return self.running() + [f for f in [self.folder] if os.path.exists(f)]


class Client:
    """A client as plain as possible, so that it can share no fault with ours."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, message: dict[str, Any]) -> None:
        await self.socket.send(json.dumps(message))

    async def until(self, *path: str) -> Any:
        """Return what is at `path` of the next message that has it."""
        with anyio.fail_after(10):
            while True:
                found: Any = json.loads(await self.socket.recv())
                for key in path:
                    found = found.get(key) if isinstance(found, dict) else None
                if found is not None:
                    return found

    async def hello(self, auth: InternalAuth | TicketAuth | TokenAuth) -> Any:
        hello = {"version": auth.version, "auth": auth.hello_auth().to_json()}
        await self.send({"id": "1", "type": "hello", "hello": hello})
        return await self.until("hello")

    async def join(self, member: Member) -> None:
        room = {"roomid": member.room_token, "sessionid": member.nc_session_id}
        await self.send({"id": "2", "type": "room", "room": room})
        assert (await self.until("room"))["roomid"] == member.room_token


def open_client(servers: RealServers) -> connect:
    return connect(servers.url.replace("http", "ws", 1) + "/spreed", proxy=None)
