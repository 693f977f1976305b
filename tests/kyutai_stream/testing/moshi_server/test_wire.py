from __future__ import annotations

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.testing.moshi_server import _wire as wire

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    # Any text and bytes, keys of the protocol among them.
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner)
    ),
    max_leaves=8,
)
KINDS = st.sampled_from(["Init", "Audio", "OggOpus", "Marker", "Step", ""])


@given(data=st.binary(max_size=64))
def test_bytes_are_read_or_refused(data: bytes) -> None:
    _read(data)


@given(kind=KINDS, pcm=VALUES, number=VALUES)
def test_messages_are_read_or_refused(kind: str, pcm: object, number: object) -> None:
    _read(msgpack.packb({"type": kind, "pcm": pcm, "data": pcm, "id": number}))


@given(message=VALUES)
def test_other_values_are_refused(message: object) -> None:
    with pytest.raises(wire.BadMessage):
        wire.decode(msgpack.packb(message))


def _read(data: bytes) -> None:
    try:
        message = wire.decode(data)
    except wire.BadMessage:
        return
    assert isinstance(message, wire.Inbound)


@pytest.mark.parametrize("single", [True, False])
def test_a_frame_is_read_alike_in_single_and_double_floats(single: bool) -> None:
    samples = np.random.default_rng(1).uniform(-1, 1, 1920).astype(np.float32)
    packed = msgpack.packb(
        {"type": "Audio", "pcm": samples.tolist()}, use_single_float=single
    )
    assert len(packed) == (9_619 if single else 17_299)
    message = wire.decode(packed)
    assert isinstance(message, wire.Audio)
    assert message.pcm.dtype == np.float32
    assert np.array_equal(message.pcm, samples)


def test_probabilities_are_singles_and_times_doubles() -> None:
    step = wire.encode(wire.Step(step_idx=3, prs=(0.5,), buffered_pcm=0))
    assert b"\x91\xca\x3f\x00\x00\x00" in step
    assert msgpack.unpackb(step) == {
        "type": "Step",
        "step_idx": 3,
        "prs": [0.5],
        "buffered_pcm": 0,
    }
    word = wire.encode(wire.Word(text="é", start_time=1))
    assert b"\xcb\x3f\xf0" in word
    assert list(msgpack.unpackb(word)) == ["type", "text", "start_time"]
    for message, expected in (
        (wire.Ready(), {"type": "Ready"}),
        (wire.EndWord(stop_time=0.5), {"type": "EndWord", "stop_time": 0.5}),
        (wire.Marker(id=-3), {"type": "Marker", "id": -3}),
        (wire.Error(message="x"), {"type": "Error", "message": "x"}),
    ):
        assert msgpack.unpackb(wire.encode(message)) == expected
