"""Peer connections: cancelled gathering, dead STUN servers."""

from __future__ import annotations

import socket
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from spreed_signaling import IceServer
from spreed_signaling.media import AudioFile, MediaError
from spreed_signaling.media import peer as peer_module
from spreed_signaling.media.peer import PublisherPeer, SubscriberPeer

from ..harness import no_leaks, open_descriptors
from .people import write_tone


@pytest.fixture
def track(tmp_path: Path) -> AudioFile:
    return AudioFile(write_tone(tmp_path / "tone.wav", 440, seconds=1.0))


def publisher(track: AudioFile, *servers: IceServer) -> PublisherPeer:
    return PublisherPeer(servers, lambda state: None, track)


async def turns(count: int) -> None:
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


async def offer_and_cancel(peer: PublisherPeer, after_turns: int) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer.offer)
        await turns(after_turns)
        tasks.cancel_scope.cancel()
    await peer.close()


async def test_a_cancelled_gathering_leaves_no_socket(track: AudioFile) -> None:
    await offer_and_cancel(publisher(track), 5)
    await turns(50)
    with no_leaks():
        for after_turns in range(25):
            await offer_and_cancel(publisher(track), after_turns)
        await turns(50)
    track.stop()


async def test_a_dead_stun_server_delays_neither_leaving_nor_others(
    track: AudioFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
        hole.bind(("127.0.0.1", 0))
        dead = IceServer(urls=(f"stun:127.0.0.1:{hole.getsockname()[1]}",))
        before = open_descriptors()
        with anyio.fail_after(4):
            await offer_and_cancel(publisher(track, dead), 200)
            await turns(50)
        # aioice's own question to the server may still be open, but no socket.
        left = {one for one in open_descriptors() - before if "socket:" in one}
        assert not left, left
        monkeypatch.setattr(peer_module, "_GATHERING_TIMEOUT_S", 0.3)
        peer = publisher(track, dead)
        with pytest.raises(MediaError, match="took too long"):
            await peer.offer()
        await peer.close()
    track.stop()


async def test_without_stun_servers_nobody_is_asked(track: AudioFile) -> None:
    """aiortc would ask a public server; gathering would take seconds offline."""
    peer = publisher(track)
    with anyio.fail_after(4):
        sdp = await peer.offer()
    assert "typ host" in sdp and "typ srflx" not in sdp
    assert peer._pc._RTCPeerConnection__configuration.iceServers == []  # type: ignore[attr-defined]  # nothing public tells
    await peer.close()
    # Closing again is harmless.
    await peer.close()
    track.stop()


async def test_a_closed_peer_takes_no_offer(track: AudioFile) -> None:
    source = publisher(track)
    sdp = await source.offer()
    peer = SubscriberPeer((), lambda state: None, lambda found: None)
    await peer.close()
    with pytest.raises(MediaError, match="unusable offer"):
        await peer.answer(sdp)
    with pytest.raises(MediaError, match="unusable answer"):
        await source.accept("garbage")
    await source.close()
    track.stop()
