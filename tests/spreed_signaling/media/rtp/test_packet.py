"""RTP packets from bytes, beside aiortc's own reading of them."""

from __future__ import annotations

import pytest
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensionsMap, RtpPacket
from hypothesis import given
from hypothesis import strategies as st

from spreed_signaling.media.rtp import is_plain, read_audio_rtp

LEVEL = 3
FIXED = bytes([0x80, 111, 0, 7, 0, 0, 3, 192, 0, 0, 0, 9])


def extended(profile: int, elements: bytes) -> bytes:
    """A packet with header extensions, padded to words, and a payload."""
    elements += bytes(-len(elements) % 4)
    head = profile.to_bytes(2, "big") + (len(elements) // 4).to_bytes(2, "big")
    return bytes([0x90]) + FIXED[1:] + head + elements + b"opus"


def level_of(data: bytes) -> int | None:
    packet = read_audio_rtp(data, LEVEL)
    assert packet is not None and packet.payload == b"opus"
    return packet.audio_level


def test_a_packet_without_extensions() -> None:
    packet = read_audio_rtp(FIXED + b"opus", LEVEL)
    assert packet is not None and packet.audio_level is None
    assert (packet.payload_type, packet.sequence_number) == (111, 7)
    assert (packet.timestamp, packet.ssrc, packet.payload) == (960, 9, b"opus")


@pytest.mark.parametrize(
    ("profile", "elements", "level"),
    [
        (0xBEDE, b"\x30\x9e", -30),
        (0xBEDE, b"\x40m\x30\x7f", -127),
        (0xBEDE, b"\x00\x00\x42mid\x00\x30\x05", -5),
        (0xBEDE, b"\x40m", None),
        (0xBEDE, b"\x31\x05\x05", None),
        # 15 ends the elements.
        (0xBEDE, b"\xf0\x00\x30\x05", None),
        # Longer than the block.
        (0xBEDE, b"\x4f\x00\x00\x00", None),
        (0x1000, b"\x04\x02ab\x03\x01\x86", -6),
        (0x1007, b"\x03\x00\x03\x01\x06", None),
        (0x1234, b"\x30\x05", None),
        (0xBEDE, b"", None),
    ],
)
def test_levels(profile: int, elements: bytes, level: int | None) -> None:
    assert level_of(extended(profile, elements)) == level


def test_without_a_number_there_is_no_level() -> None:
    packet = read_audio_rtp(extended(0xBEDE, b"\x30\x05"), None)
    assert packet is not None and packet.audio_level is None


@pytest.mark.parametrize("missing", range(1, 5))
def test_extensions_that_are_cut_off(missing: int) -> None:
    whole = extended(0xBEDE, b"\x30\x05")[: -len(b"opus")]
    assert read_audio_rtp(whole[:-missing], LEVEL) is None
    assert read_audio_rtp(whole[:14], LEVEL) is None


@pytest.mark.parametrize("first", [0x00, 0x40, 0xC0, 0xA0, 0x81, 0xB0])
def test_only_plain_packets_are_read(first: int) -> None:
    assert not is_plain(bytes([first]) + FIXED[1:] + b"opus")
    assert not is_plain(FIXED)


@given(st.binary(min_size=13, max_size=60), st.none() | st.integers(1, 255))
def test_any_bytes(data: bytes, level_id: int | None) -> None:
    for first in (0x80, 0x90):
        packet = read_audio_rtp(bytes([first]) + data[1:], level_id)
        if packet is not None:
            assert packet.audio_level in (None, *range(-127, 1))


@given(
    st.integers(0, 1),
    st.integers(0, 127),
    st.integers(0, 0xFFFF),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=1, max_size=50),
    st.none() | st.tuples(st.booleans(), st.integers(0, 127)),
    st.sampled_from([None, "0", "audio-of-somebody"]),
)
def test_it_reads_what_aiortc_reads(
    marker: int,
    payload_type: int,
    number: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    level: tuple[bool, int] | None,
    mid: str | None,
) -> None:
    packet = RtpPacket(payload_type, marker, number, timestamp, ssrc, payload)
    packet.extensions.audio_level = level
    packet.extensions.mid = mid
    names = HeaderExtensionsMap()
    names.configure(
        RTCRtpParameters(
            headerExtensions=[
                RTCRtpHeaderExtensionParameters(
                    id=LEVEL, uri="urn:ietf:params:rtp-hdrext:ssrc-audio-level"
                ),
                RTCRtpHeaderExtensionParameters(
                    id=4, uri="urn:ietf:params:rtp-hdrext:sdes:mid"
                ),
            ]
        )
    )
    data = packet.serialize(names)
    assert is_plain(data)
    ours, theirs = read_audio_rtp(data, LEVEL), RtpPacket.parse(data, names)
    assert ours is not None
    for name in ("payload_type", "sequence_number", "timestamp", "ssrc", "payload"):
        assert getattr(ours, name) == getattr(theirs, name)
    stated = theirs.extensions.audio_level
    assert ours.audio_level == (None if stated is None else -stated[1])
