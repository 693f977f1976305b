"""The harness itself: real servers come up, restart and leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect

from spreed_signaling.errors import RoomApiError, UsageError
from spreed_signaling.http import RoomApi, welcome
from spreed_signaling.protocol.auth import InternalAuth, TicketAuth, TokenAuth
from spreed_signaling.testing._serve import bind_socket, local_client
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud
from spreed_signaling.testing.real import (
    HPB_SUITES,
    RealServers,
    RealServersUnavailable,
    ServerStartFailed,
    own_host_addresses,
    prepare,
    unavailable_reason,
)
from spreed_signaling.testing.real import _network as network
from spreed_signaling.testing.real import _packages as packages
from spreed_signaling.testing.real.__main__ import main

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
async def servers_prepared(request: pytest.FixtureRequest) -> None:
    """Download once; skips with the reason where that is impossible, CI fails."""
    try:
        await prepare(progress=lambda line: print(line))  # noqa: T201  # shown by -s
    except RealServersUnavailable as exc:
        if request.config.getoption("--require-real"):
            raise
        pytest.skip(str(exc))


@pytest.fixture
async def nc() -> AsyncIterator[StandInNextcloud]:
    async with StandInNextcloud() as server:
        server.add_room("tok", "Room")
        yield server


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


@pytest.mark.parametrize("suite", HPB_SUITES)
async def test_each_version_serves_a_room_and_a_call(
    nc: StandInNextcloud, suite: str
) -> None:
    async with make_servers(nc, hpb_version=suite) as servers:
        print(f"{suite}: HPB {servers.version}, Janus {servers.janus_version}")  # noqa: T201  # the versions belong into the test report
        assert (servers.kind, servers.internal_secret) == ("real", "first-secret")
        nc.hpb_url = servers.url
        async with local_client() as client:
            found = await welcome(servers.url, client=client)
        assert found.version == servers.version
        assert "mcu" in found.features
        assert servers.janus_version
        alice = nc.add_member("tok", "alice", "Alice")
        guest = nc.add_member("tok", "", "Guest")
        async with open_client(servers) as a, open_client(servers) as b:
            first, second = Client(a), Client(b)
            assert (await first.hello(alice.auth))["userid"] == "alice"
            assert not (await second.hello(guest.auth)).get("userid")
            await first.join(alice)
            await second.join(guest)
            await nc.join_call(alice)
            users = (await second.until("event", "update"))["users"]
            ids = {user["nextcloudSessionId"]: user["inCall"] for user in users}
            assert ids[alice.nc_session_id] == 3
            assert ids.get(guest.nc_session_id, 0) == 0
            await nc.end_call("tok")
            assert (await second.until("event", "update", "all")) is True
        summaries = [request.summary for request in nc.requests]
        assert summaries.count("auth") == 2
        assert "room join tok" in summaries


@pytest.mark.parametrize(
    ("kind", "pinned"), [("namespace", True), ("namespace", False), ("host", True)]
)
async def test_media_reaches_janus(
    nc: StandInNextcloud, monkeypatch: pytest.MonkeyPatch, kind: str, pinned: bool
) -> None:
    aiortc = pytest.importorskip("aiortc")

    async def forbidden(self: object) -> None:
        raise RealServersUnavailable("namespaces are not allowed here")

    if kind == "host":
        monkeypatch.setattr(network.NamespaceNetwork, "open", forbidden)
    alice = nc.add_member("tok", "alice", "Alice")
    async with make_servers(nc) as servers, open_client(servers) as ws:
        if servers.network_kind != kind:
            pytest.skip("this machine does not allow network namespaces")
        nc.hpb_url = servers.url
        client = Client(ws)
        session_id = (await client.hello(alice.auth))["sessionid"]
        await client.join(alice)
        await nc.join_call(alice)
        config = aiortc.RTCConfiguration(iceServers=[])
        peer = aiortc.RTCPeerConnection(config)
        peer.addTransceiver("audio", direction="sendonly")
        with servers.pinned_ice() if pinned else contextlib.nullcontext():
            await peer.setLocalDescription(await peer.createOffer())
        offer = peer.localDescription
        assert (f" {servers.host_address} " in offer.sdp) or not pinned
        payload = {"type": "offer", "sdp": offer.sdp}
        recipient = {"type": "session", "sessionid": session_id}
        data = {"type": "offer", "roomType": "video", "sid": "1", "payload": payload}
        message = {"recipient": recipient, "data": data}
        await client.send({"id": "3", "type": "message", "message": message})
        answer = await client.until("message", "data", "payload", "sdp")
        connected = anyio.Event()

        @peer.on("connectionstatechange")  # type: ignore[untyped-decorator]  # pyee
        def changed() -> None:
            if peer.connectionState == "connected":
                connected.set()

        await peer.setRemoteDescription(aiortc.RTCSessionDescription(answer, "answer"))
        try:
            with anyio.fail_after(10):
                while not connected.is_set():
                    candidate = await client.until("message", "data", "payload")
                    line = candidate.get("candidate", {}).get("candidate", "")
                    if line:
                        assert servers.media_address in line
                        from aiortc.sdp import candidate_from_sdp

                        found = candidate_from_sdp(line.partition(":")[2])
                        found.sdpMid = "0"
                        await peer.addIceCandidate(found)
                    with anyio.move_on_after(3):
                        await connected.wait()
        finally:
            await peer.close()


async def test_tokens_of_the_stand_in_are_accepted(nc: StandInNextcloud) -> None:
    alice = nc.add_member("tok", "alice", "Alice")
    async with make_servers(nc) as servers, open_client(servers) as ws:
        answer = await Client(ws).hello(nc.token_auth(alice))
        assert answer["userid"] == "alice"


async def test_restart_with_another_secret_on_the_same_port(
    nc: StandInNextcloud,
) -> None:
    def internal(secret: str) -> InternalAuth:
        return InternalAuth(secret=secret, backend_url=nc.url)

    async with make_servers(nc) as servers:
        url = servers.url
        async with open_client(servers) as ws:
            assert (await Client(ws).hello(internal("first-secret")))["sessionid"]
        await servers.stop_hpb()
        async with local_client() as client:
            with pytest.raises(RoomApiError):
                await welcome(url, client=client)
        await servers.start_hpb(internal_secret="second-secret")
        assert (servers.url, servers.internal_secret) == (url, "second-secret")
        async with open_client(servers) as ws:
            assert (await Client(ws).hello(internal("second-secret")))["sessionid"]
        async with open_client(servers) as ws:
            refused = Client(ws)
            hello = internal("first-secret").hello_auth().to_json()
            message = {"version": "1.0", "auth": hello}
            await refused.send({"id": "1", "type": "hello", "hello": message})
            assert (await refused.until("error"))["code"] == "invalid_token"


async def test_janus_can_be_killed_and_comes_back(nc: StandInNextcloud) -> None:
    async with make_servers(nc) as servers:
        connected = "Connected to Janus"
        assert servers.logs().count(connected) == 1
        await servers.kill_janus()
        await servers.kill_janus()
        await servers.start_janus()
        with pytest.raises(UsageError):
            await servers.start_janus()
        # The signaling server connects again by itself, after 1, 2, 4 seconds. It
        # tells nobody but its log.
        with anyio.fail_after(20):
            while servers.logs().count(connected) < 2:  # noqa: ASYNC110  # as said
                await anyio.sleep(0.05)


async def test_a_second_instance_takes_over_the_port(nc: StandInNextcloud) -> None:
    async with make_servers(nc) as servers:
        port = servers.port
    async with make_servers(nc, port=port) as servers:
        assert servers.url == f"http://127.0.0.1:{port}"


async def test_the_stand_ins_secret_is_what_counts(nc: StandInNextcloud) -> None:
    async with make_servers(nc) as servers, local_client() as client:
        good = RoomApi(servers.url, nc.url, nc.backend_secret, client=client)
        await good.end_call("tok")
        bad = RoomApi(servers.url, nc.url, "other", client=client)
        with pytest.raises(RoomApiError) as caught:
            await bad.end_call("tok")
        assert caught.value.status == 403


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


class TestPackages:
    def test_this_machine_can_run_them(self) -> None:
        assert unavailable_reason() is None

    @pytest.mark.parametrize("suite", HPB_SUITES)
    def test_both_versions_are_cached(self, suite: str) -> None:
        package = packages.find_hpb(suite, packages.default_cache())
        assert package is not None
        assert package.version[0].isdigit()

    async def test_two_at_once_download_once(self, tmp_path: Path) -> None:
        suite = "bookworm-backports"
        said: list[str] = []
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                fetch = packages.fetch_hpb
                tasks.start_soon(fetch, suite, tmp_path, said.append)
        assert len([line for line in said if line.startswith("downloading")]) == 1
        found = packages.find_hpb(suite, tmp_path)
        assert found is not None
        assert os.access(found.binary, os.X_OK)
        assert sorted(os.listdir(tmp_path)) == ["lock", "packages", "suites"]

    @pytest.mark.parametrize(
        ("targets", "mirror"),
        [
            (["Origin: Debian", "Release: bookworm"], "http://mirror/debian/"),
            (["Origin: Other", "Release: bookworm"], None),
            (["Origin: Debian", "Release: bookworm-security"], None),
            (["Release: bookworm"], "http://mirror/debian/"),
        ],
        ids=["debian", "other", "security", "never updated"],
    )
    async def test_the_mirror_is_the_one_of_apt(
        self, monkeypatch: pytest.MonkeyPatch, targets: list[str], mirror: str | None
    ) -> None:
        lines = ["Repo-URI: http://mirror/debian/", *targets]

        async def apt(*command: str, **options: Any) -> tuple[int, str]:
            return 0, "\n".join(lines) + "\n\n"

        monkeypatch.setattr(packages, "run_command", apt)
        if mirror is None:
            with pytest.raises(RealServersUnavailable, match="no Debian mirror"):
                await packages._debian_mirror()
        else:
            assert await packages._debian_mirror() == mirror

    def test_the_command_says_what_is_ready(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["prepare", "sid"]) == 0
        assert "ready: signaling servers of sid, and Janus" in capsys.readouterr().out
        assert main(["prepare", "../sid"]) == 1
        assert "not the name of a Debian suite" in capsys.readouterr().err

    async def test_an_unknown_suite_is_unavailable_and_leaves_no_trace(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(RealServersUnavailable, match="no-such-suite"):
            await prepare(("no-such-suite",), cache=tmp_path)
        with pytest.raises(RealServersUnavailable, match="name of a Debian suite"):
            await prepare(("../sid",), cache=tmp_path)
        assert os.listdir(tmp_path) == ["lock"]


def test_ice_addresses_are_pinned_and_put_back() -> None:
    ice = pytest.importorskip("aioice.ice")
    original = ice.get_host_addresses
    with own_host_addresses("192.0.2.9", "fd00::9"):
        assert ice.get_host_addresses(True, False) == ["192.0.2.9"]
        assert ice.get_host_addresses(True, True) == ["192.0.2.9", "fd00::9"]
    assert ice.get_host_addresses is original
