"""Frames cut by us and judged by `websockets` are what `websockets` alone reads."""

from __future__ import annotations

import runpy
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol

from kyutai_stream.wire import websocket
from kyutai_stream.wire.websocket import TEXT, FrameSplitter, frame

LONGEST = 70_000


def protocol(*, masked: bool) -> Protocol:
    """The reading side: a server reads masked frames."""
    side = SERVER if masked else CLIENT
    return Protocol(side, state=OPEN, max_size=LONGEST)


def heard(reader: Protocol) -> list[tuple[int, bool, bytes]]:
    return [
        (int(event.opcode), event.fin, bytes(event.data))
        for event in reader.events_received()
        if isinstance(event, Frame)
    ]


def through_both(
    data: list[bytes], *, masked: bool
) -> tuple[list[tuple[int, bool, bytes]], Protocol, int]:
    """What comes out when whole binary frames are taken past the library."""
    splitter, reader = (
        FrameSplitter(masked=masked, longest=LONGEST),
        protocol(masked=masked),
    )
    out: list[tuple[int, bool, bytes]] = []
    direct = 0
    for chunk in data:
        for ours, piece in splitter.feed(chunk):
            if ours and reader.state is OPEN:
                out.append((2, True, piece))
                direct += 1
            elif reader.parser_exc is None:
                reader.receive_data(piece)
                out += heard(reader)
    return out, reader, direct


def through_library(
    data: list[bytes], *, masked: bool
) -> tuple[list[tuple[int, bool, bytes]], Protocol]:
    reader = protocol(masked=masked)
    out: list[tuple[int, bool, bytes]] = []
    for chunk in data:
        if reader.parser_exc is None:
            reader.receive_data(chunk)
            out += heard(reader)
    return out, reader


payloads = st.one_of(st.binary(max_size=200), st.just(bytes(7_680)))
opcodes = st.sampled_from([Opcode.BINARY] * 4 + [Opcode.TEXT, Opcode.CONT, Opcode.PING])


@st.composite
def frames(draw: st.DrawFn) -> tuple[bool, bytes]:
    """Mostly what peers send; now and then what they must not."""
    masked = draw(st.booleans())
    out = b""
    for _ in range(draw(st.integers(1, 6))):
        opcode = draw(opcodes)
        data = b"x" * 20 if opcode is Opcode.TEXT else draw(payloads)
        if opcode is Opcode.PING:
            data = data[:100]
        one = Frame(opcode, data, fin=draw(st.booleans()) or opcode is Opcode.PING)
        out += one.serialize(mask=masked)
    return masked, out + draw(
        st.sampled_from([b"", b"\xff", b"\x83\x00", b"\xc2\x81a"])
    )


@given(frames(), st.lists(st.integers(0, 9_000), max_size=6))
def test_nothing_is_read_otherwise(what: tuple[bool, bytes], cuts: list[int]) -> None:
    masked, data = what
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    chunks = [data[a:b] for a, b in zip(places, places[1:], strict=False)]
    ours, reader, _ = through_both(chunks, masked=masked)
    theirs, library = through_library(chunks, masked=masked)
    assert ours == theirs
    assert (reader.parser_exc is None) == (library.parser_exc is None)
    assert reader.close_sent == library.close_sent


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 7_680, 65_535, 65_536, LONGEST])
def test_a_frame_of_any_length(masked: bool, size: int) -> None:
    payload = bytes(index % 251 for index in range(size))
    wire = frame(payload, masked=masked)
    read, reader = through_library([wire], masked=masked)
    assert read == [(2, True, payload)]
    out, _, direct = through_both([wire[:1], wire[1:]], masked=masked)
    assert (out, direct) == ([(2, True, payload)], 1)
    assert reader.parser_exc is None


def test_text_is_left_to_the_library() -> None:
    wire = frame("é".encode(), opcode=TEXT, masked=True)
    assert FrameSplitter(masked=True, longest=10).feed(wire) == [(False, wire)]


def test_a_frame_too_long_is_not_waited_for() -> None:
    wire = frame(bytes(LONGEST + 1), masked=True)[:20]
    splitter = FrameSplitter(masked=True, longest=LONGEST)
    assert splitter.feed(wire) == [(False, wire)]
    _, reader, direct = through_both([wire], masked=True)
    assert direct == 0
    assert reader.close_sent is not None
    assert reader.close_sent.code == 1009


def test_what_follows_a_violation_is_left_to_the_library() -> None:
    splitter = FrameSplitter(masked=True, longest=LONGEST)
    good = frame(b"good", masked=True)
    unmasked = frame(b"bad", masked=False)
    assert splitter.feed(good + unmasked + good) == [
        (True, b"good"),
        (False, unmasked + good),
    ]
    assert splitter.feed(good) == [(False, good)]


def test_a_long_frame_in_small_pieces() -> None:
    splitter = FrameSplitter(masked=True, longest=LONGEST)
    wire = frame(bytes(LONGEST), masked=True) + frame(b"next", masked=True)
    out = [
        piece
        for index in range(0, len(wire), 7)
        for piece in splitter.feed(wire[index : index + 7])
    ]
    assert out == [(True, bytes(LONGEST)), (True, b"next")]


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """`websockets` may have been built without its masking in C."""
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    plain = runpy.run_path(str(websocket.__file__))
    assert plain["apply_mask"].__module__ == "websockets.utils"
    wire = plain["frame"](b"any", masked=True)
    assert FrameSplitter(masked=True, longest=9).feed(wire) == [(True, b"any")]


def test_fragments_are_left_to_the_library() -> None:
    one = [
        Frame(Opcode.BINARY, b"a", fin=False).serialize(mask=False),
        Frame(Opcode.PING, b"").serialize(mask=False),
        Frame(Opcode.CONT, b"b", fin=False).serialize(mask=False),
        Frame(Opcode.CONT, b"c").serialize(mask=False),
    ]
    after = frame(b"whole", masked=False)
    splitter = FrameSplitter(masked=False, longest=9)
    pieces = splitter.feed(b"".join(one) + after)
    assert pieces == [(False, piece) for piece in one] + [(True, b"whole")]
