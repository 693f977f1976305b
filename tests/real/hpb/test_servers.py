"""Real servers come up, take what Nextcloud says, and restart."""

from __future__ import annotations

import anyio
import pytest

from spreed_signaling.errors import RoomApiError, UsageError
from spreed_signaling.http import RoomApi, welcome
from spreed_signaling.protocol.auth import InternalAuth
from spreed_signaling.testing._serve import local_client
from spreed_signaling.testing.nextcloud import StandInNextcloud
from spreed_signaling.testing.real import HPB_SUITES

from .servers import Client, make_servers, open_client

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


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
