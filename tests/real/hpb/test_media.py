"""Media reaches Janus, wherever it lives."""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import pytest

from spreed_signaling.testing.nextcloud import StandInNextcloud
from spreed_signaling.testing.real import RealServersUnavailable, own_host_addresses
from spreed_signaling.testing.real import _network as network

from .servers import Client, make_servers, open_client

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


async def offer_audio(peer: Any) -> str:
    """Offer to send audio; returns the description, with our candidates."""
    peer.addTransceiver("audio", direction="sendonly")
    await peer.setLocalDescription(await peer.createOffer())
    return str(peer.localDescription.sdp)


async def publish(client: Client, session_id: str, sdp: str) -> None:
    payload = {"type": "offer", "sdp": sdp}
    data = {"type": "offer", "roomType": "video", "sid": "1", "payload": payload}
    recipient = {"type": "session", "sessionid": session_id}
    message = {"recipient": recipient, "data": data}
    await client.send({"id": "3", "type": "message", "message": message})


async def reach(address: str, peer: Any, client: Client) -> None:
    """Connect with the server's candidates, all of them at this address."""
    from aiortc.sdp import candidate_from_sdp

    connected = anyio.Event()

    @peer.on("connectionstatechange")  # type: ignore[untyped-decorator]  # pyee
    def changed() -> None:
        if peer.connectionState == "connected":
            connected.set()

    with anyio.fail_after(10):
        while not connected.is_set():
            candidate = await client.until("message", "data", "payload")
            line = candidate.get("candidate", {}).get("candidate", "")
            if line:
                assert address in line
                found = candidate_from_sdp(line.partition(":")[2])
                found.sdpMid = "0"
                await peer.addIceCandidate(found)
            with anyio.move_on_after(3):
                await connected.wait()


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
        peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        try:
            with servers.pinned_ice() if pinned else contextlib.nullcontext():
                sdp = await offer_audio(peer)
            assert (f" {servers.host_address} " in sdp) or not pinned
            await publish(client, session_id, sdp)
            answer = await client.until("message", "data", "payload", "sdp")
            await peer.setRemoteDescription(
                aiortc.RTCSessionDescription(answer, "answer")
            )
            await reach(servers.media_address, peer, client)
        finally:
            await peer.close()


def test_ice_addresses_are_pinned_and_put_back() -> None:
    ice = pytest.importorskip("aioice.ice")
    original = ice.get_host_addresses
    with own_host_addresses("192.0.2.9", "fd00::9"):
        assert ice.get_host_addresses(True, False) == ["192.0.2.9"]
        assert ice.get_host_addresses(True, True) == ["192.0.2.9", "fd00::9"]
    assert ice.get_host_addresses is original
