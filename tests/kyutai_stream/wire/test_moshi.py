from __future__ import annotations

import logging
import math
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kyutai_stream.errors import AudioFormatError, ProtocolError
from kyutai_stream.wire import moshi
from kyutai_stream.wire._novelty import LONGEST, MOST, Novelties

Samples = npt.NDArray[np.float32]


def packed(message: object) -> bytes:
    data: bytes = msgpack.packb(message, use_single_float=True)
    return data


def audio(samples: Samples) -> bytes:
    return packed({"type": "Audio", "pcm": samples.tolist()})


class TestEncoding:
    """kyutai-stt.md 1.7: the bytes are those of msgpack with single floats."""

    @pytest.mark.parametrize("count", [0, 1, 15, 16, 1919, 1920, 65_535, 65_536])
    def test_every_array_header(self, count: int) -> None:
        samples = np.linspace(-1, 1, count, dtype=np.float32)
        assert moshi.encode_audio(samples) == audio(samples)

    @given(arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32)))
    def test_any_samples_come_out_exactly(self, samples: Samples) -> None:
        unpacked = msgpack.unpackb(moshi.encode_audio(samples))
        assert unpacked["type"] == "Audio"
        back = np.array(unpacked["pcm"], dtype=np.float32)
        np.testing.assert_array_equal(back, samples)

    def test_a_frame_has_its_known_size_and_prefix(self) -> None:
        data = moshi.FrameEncoder().encode(np.zeros(1920, dtype=np.float32))
        assert len(data) == 9_619
        assert data.startswith(
            bytes.fromhex("82a474797065a5417564696fa370636ddc0780ca")
        )

    def test_an_encoder_is_used_again_without_touching_what_it_gave(self) -> None:
        encoder = moshi.FrameEncoder(4)
        one = np.array([0.5, -0.5, 1, -1], dtype=np.float32)
        two = np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)
        first, second = encoder.encode(one), encoder.encode(two)
        assert first == audio(one)
        assert second == audio(two)

    @pytest.mark.parametrize("shape", [(1,), (3,), (5,), (2, 2), (4, 1), (1, 4)])
    def test_an_encoder_refuses_another_shape(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(AudioFormatError, match="does not fit"):
            moshi.FrameEncoder(4).encode(np.zeros(shape, dtype=np.float32))

    def test_messages_without_audio(self) -> None:
        assert packed({"type": "Init"}) == moshi.INIT
        assert audio(np.zeros(0, dtype=np.float32)) == moshi.EMPTY_AUDIO

    @given(st.integers(-(2**63), 2**63 - 1))
    def test_markers(self, marker_id: int) -> None:
        expected = packed({"type": "Marker", "id": marker_id})
        assert moshi.encode_marker(marker_id) == expected


class TestDecoding:
    """kyutai-stt.md 1.3, and the enum `OutMsg` of the server."""

    def test_every_known_message(self) -> None:
        step = {"type": "Step", "step_idx": 408, "prs": [0.5, 1], "buffered_pcm": 0}
        known: list[tuple[object, moshi.ServerMessage]] = [
            ({"type": "Ready"}, moshi.Ready()),
            (step, moshi.Step(prs=(0.5, 1.0))),
            ({"type": "Step", "step_idx": 3}, moshi.Step(prs=())),
            (
                {"type": "Word", "text": "Où", "start_time": 2},
                moshi.Word(text="Où", start_s=2.0),
            ),
            ({"type": "EndWord", "stop_time": 0.5}, moshi.EndWord(stop_s=0.5)),
            ({"type": "Marker", "id": -7}, moshi.Marker(marker_id=-7)),
            (
                {"type": "Error", "message": "no free channels"},
                moshi.Error(message="no free channels"),
            ),
        ]
        assert [moshi.decode(packed(one)) for one, _ in known] == [
            two for _, two in known
        ]

    def test_unknown_fields_and_types_are_no_error(self) -> None:
        assert moshi.decode(packed({"type": "Ready", "new": [1]})) == moshi.Ready()
        assert moshi.decode(packed({"type": "Bell"})) == moshi.Unknown(kind="Bell")

    @pytest.mark.parametrize(
        "message",
        [
            [],
            7,
            {},
            {"type": 3},
            {"type": None, "text": "a"},
            {"type": "Word", "start_time": 1.0},
            {"type": "Word", "text": b"a", "start_time": 1.0},
            {"type": "Word", "text": "a"},
            {"type": "Word", "text": "a", "start_time": True},
            {"type": "Word", "text": "a", "start_time": math.nan},
            {"type": "EndWord", "stop_time": math.inf},
            {"type": "Marker", "id": 1.0},
            {"type": "Marker", "id": True},
            {"type": "Error"},
            {"type": "Step", "prs": 0.5},
            {"type": "Step", "prs": [0.5, "a"]},
            {"type": "Step", "prs": [math.nan]},
        ],
    )
    def test_a_known_message_of_another_form_is_refused(self, message: object) -> None:
        with pytest.raises(ProtocolError):
            moshi.decode(packed(message))

    def test_text_hints_at_the_other_backend(self) -> None:
        with pytest.raises(ProtocolError, match="modal"):
            moshi.decode('{"type":"ready"}')

    def test_speech_is_in_no_error_and_no_repr(self) -> None:
        broken = packed({"type": "Word", "text": "secret", "start_time": "soon"})
        for data in (broken, broken[:-3], broken + b"\x01"):
            with pytest.raises(ProtocolError) as caught:
                moshi.decode(data)
            assert "secret" not in str(caught.value)
            assert caught.value.__suppress_context__ or not caught.value.__context__
        word = moshi.decode(packed({"type": "Word", "text": "secret", "start_time": 1}))
        assert "secret" not in repr(word)

    def test_deep_nesting_is_refused(self) -> None:
        _decode_or_refuse(b"\x81\xa4type" + b"\x91" * 100_000)

    @given(st.binary(max_size=60))
    def test_any_bytes_decode_or_are_refused(self, data: bytes) -> None:
        _decode_or_refuse(data)

    # Loaded machines make the first example slow.
    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.dictionaries(
            st.sampled_from(
                ["type", "text", "prs", "id", "start_time", "stop_time", "message"]
            ),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers(-(2**63), 2**64 - 1)
                | st.floats()
                | st.text(max_size=5)
                | st.binary(max_size=5)
                | st.sampled_from(["Word", "Step", "EndWord", "Marker", "Error"]),
                lambda inner: st.lists(inner, max_size=3),
                max_leaves=4,
            ),
        ),
        st.integers(0, 80),
        st.binary(max_size=3),
    )
    def test_maps_cut_and_mended_decode_or_are_refused(
        self, message: dict[str, Any], cut: int, tail: bytes
    ) -> None:
        data: bytes = msgpack.packb(message)
        _decode_or_refuse(data)
        _decode_or_refuse(data[:cut] + tail)


def _decode_or_refuse(data: bytes) -> None:
    try:
        message = moshi.decode(data)
    except ProtocolError:
        return
    assert isinstance(message, moshi.ServerMessage)


def test_what_is_unknown_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("novelties")
    novelties = Novelties(logger, "it")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            novelties.say("Bell\n" * LONGEST)
        for number in range(2 * MOST):
            novelties.say(str(number))
    assert len(caplog.records) == MOST
    first = caplog.records[0].getMessage()
    assert "\n" not in first and len(first) < 3 * LONGEST
