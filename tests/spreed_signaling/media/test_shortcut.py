"""The short way from the socket: the contract, its limits, and hostile datagrams."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path
from typing import Any

import aiortc
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from spreed_signaling.media import shortcut as shortcut_module
from spreed_signaling.media.shortcut import open_shortcut, why_no_shortcut

from .pairs import Pair, loopback, until


def is_short(pair: Pair) -> bool:
    shortcut = pair.peer._shortcut
    return shortcut is not None and len(shortcut._streams) == 1


def receiver_of(pair: Pair) -> Any:
    (receiver,) = pair.peer._pc.getReceivers()
    return receiver


async def test_the_contract_with_this_aiortc(tmp_path: Path) -> None:
    """Fails when a new aiortc changes what the shortcut relies on."""
    async with loopback(tmp_path) as pair:
        assert why_no_shortcut(receiver_of(pair)) is None, (
            f"aiortc {aiortc.__version__}"
        )
        await until(lambda: len(pair.packets) >= 30)
        assert is_short(pair)
        # aiortc's own counters are the ones behind receiver reports.
        (known,) = receiver_of(pair)._RTCRtpReceiver__remote_streams.values()
        assert known.packets_received == len(pair.packets)
        assert known.packets_lost == 0
        first = pair.packets[0]
        for number, packet in enumerate(pair.packets):
            assert (packet.sequence_number - first.sequence_number) & 0xFFFF == number
            assert packet.payload_type in pair.peer.opus_payload_types
            assert packet.audio_level in range(-127, 1)
        assert pair.refused == 0
        # What aiortc would have read from every datagram.
        for protocol in pair.peer._shortcut._connection._protocols:  # type: ignore[union-attr]  # is_short
            assert protocol.transport.max_size == shortcut_module._READ_SIZE


async def test_without_it_the_tap_works_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcut_module, "why_no_shortcut", lambda receiver: "no")
    async with loopback(tmp_path) as pair:
        await until(lambda: len(pair.packets) >= 10)
        assert pair.peer._shortcut is None


async def test_hostile_datagrams_do_not_close_the_connection(tmp_path: Path) -> None:
    """Each of the first two makes aiortc 1.16 close it, whoever sends them."""
    async with loopback(tmp_path) as pair:
        await until(lambda: is_short(pair))
        (protocol, *_) = pair.peer._shortcut._connection._protocols  # type: ignore[union-attr]  # is_short
        address = protocol.transport.get_extra_info("sockname")
        ssrc = pair.packets[0].ssrc.to_bytes(4, "big")
        (payload_type,) = pair.peer.opus_payload_types & {pair.packets[0].payload_type}
        fixed = bytes([0x80, payload_type, 0, 1, 0, 0, 0, 1]) + ssrc
        hostile = [b"", b"\x80" * 1_600, fixed + bytes(30), fixed + bytes(1_600)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for datagram in [*hostile, fixed, fixed[:9], b"\x80", b"\x90\x6f"]:
                stranger.sendto(datagram, address)
        heard = len(pair.packets)
        await until(lambda: len(pair.packets) >= heard + 20)
        assert pair.refused == len(hostile)
        assert pair.peer._pc.connectionState == "connected"


async def test_odd_packets_of_the_other_side_take_the_long_way(tmp_path: Path) -> None:
    """An extension of a wrong length makes aiortc 1.16 close the connection."""
    async with loopback(tmp_path) as pair:
        await until(lambda: is_short(pair))
        (sender,) = pair.publisher.getSenders()
        ssrc = pair.packets[0].ssrc
        payload_type = pair.packets[0].payload_type
        level_id = pair.peer._level_id
        assert level_id is not None

        # A little ahead of the sender's own, inside of SRTP's window.
        numbers = itertools.count(pair.packets[-1].sequence_number + 300)

        async def send(first: int, rest: bytes, ssrc: int) -> None:
            number = (next(numbers) & 0xFFFF).to_bytes(2, "big")
            fixed = bytes([first, payload_type]) + number + bytes(4)
            data = fixed + ssrc.to_bytes(4, "big") + rest
            await sender.transport._send_rtp(data)

        wrong_size = bytes([0xBE, 0xDE, 0, 1, level_id << 4 | 1, 1, 1, 0])
        # A stream that nobody knows: aiortc reads it first, and fails.
        await send(0x90, wrong_size + b"opus", ssrc ^ 1)
        await until(lambda: pair.refused == 1)
        # Of a known stream it is only no level.
        await send(0x90, wrong_size + b"short", ssrc)
        await until(lambda: any(one.payload == b"short" for one in pair.packets))
        # Padding is aiortc's; it takes two of these six bytes away.
        await send(0xA0, b"opus\x00\x02", ssrc)
        await until(lambda: any(one.payload == b"opus" for one in pair.packets))
        heard = len(pair.packets)
        await until(lambda: len(pair.packets) >= heard + 10)
        assert is_short(pair) and pair.refused == 1


async def test_a_mistake_of_ours_leads_back_to_the_long_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with loopback(tmp_path) as pair:
        await until(lambda: is_short(pair))
        shortcut = pair.peer._shortcut
        assert shortcut is not None

        def fail(packet: object) -> None:
            raise RuntimeError("ours")

        shortcut._handler = fail
        heard = len(pair.packets)
        await until(lambda: len(pair.packets) >= heard + 10)
        assert caplog.text.count("they take aiortc's") == 1


async def test_a_new_negotiation_begins_anew(tmp_path: Path) -> None:
    async with loopback(tmp_path) as pair:
        await until(lambda: is_short(pair))
        shortcut = pair.peer._shortcut
        assert shortcut is not None
        shortcut.configure({72, 80}, None)
        assert not shortcut._streams and not shortcut._payload_types
        heard = len(pair.packets)
        await until(lambda: len(pair.packets) >= heard + 10)
        # No type that looks like RTCP goes the short way.
        assert not shortcut._payload_types


async def test_why_not_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    receiver: Any = connection.addTransceiver("audio").receiver
    assert why_no_shortcut(receiver) is None
    dtls = receiver.transport
    with monkeypatch.context() as patch:
        patch.setattr(dtls, "_handle_rtp_data", lambda data: None)
        assert "_handle_rtp_data" in str(why_no_shortcut(receiver))
    with monkeypatch.context() as patch:
        patch.setattr(dtls.transport._connection, "data_received", print)
        assert "data_received" in str(why_no_shortcut(receiver))
    with monkeypatch.context() as patch:
        patch.setattr(receiver, "_RTCRtpReceiver__remote_streams", [])
        assert "no dict" in str(why_no_shortcut(receiver))
    with monkeypatch.context() as patch:
        patch.delattr(dtls, "_rx_srtp")
        assert "_rx_srtp" in str(why_no_shortcut(receiver))
        assert open_shortcut(receiver, print, print) is None
    with monkeypatch.context() as patch:
        patch.setattr(shortcut_module, "_why_not_at_all", lambda: "otherwise")
        assert why_no_shortcut(receiver) == "otherwise"
    await connection.close()
