from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kyutai_stream.errors import ProtocolError
from kyutai_stream.wire import gateway
from kyutai_stream.wire.gateway import reading, writing


class TestEncoding:
    @given(arrays(np.float32, st.integers(0, 20), elements=st.floats(-1, 1, width=32)))
    def test_float32_is_exact_and_int16_within_half_a_step(
        self, samples: writing.Samples
    ) -> None:
        back = np.frombuffer(gateway.encode_frame(samples), dtype="<f4")
        np.testing.assert_array_equal(back, samples)
        coarse = np.frombuffer(gateway.encode_pcm16(samples), dtype="<i2") / 32768
        np.testing.assert_allclose(coarse, samples, atol=1 / 32768)

    def test_int16_clips(self) -> None:
        data = gateway.encode_pcm16(np.array([2.0, -2.0], dtype=np.float32))
        assert np.frombuffer(data, dtype="<i2").tolist() == [32767, -32768]

    def test_controls(self) -> None:
        assert json.loads(gateway.encode_flush(3)) == {"type": "flush", "id": 3}
        assert json.loads(gateway.encode_reset(4)) == {"type": "reset", "id": 4}
        assert gateway.KEEPALIVE == b""


def token(text: str, **fields: Any) -> gateway.Token:
    numbers = {"epoch": None, "index": None, "start_s": None}
    return gateway.Token(text=text, **{**numbers, **fields})


def untyped(text: str, final: bool, vad_end: bool) -> gateway.Transcript:
    return gateway.Transcript(text=text, final=final, vad_end=vad_end)


KNOWN: list[tuple[dict[str, Any], gateway.GatewayMessage]] = [
    # Protocol 1, decisions.md.
    (
        {
            "type": "ready",
            "protocol": 1,
            "model": "stt",
            "delay_ms": 480,
            "languages": ["en"],
            "acks": True,
            "pause_horizons_s": [0.5, 1],
        },
        gateway.Ready(
            protocol=1,
            delay_s=0.48,
            languages=("en",),
            acks=True,
            pause_horizons_s=(0.5, 1.0),
        ),
    ),
    (
        {
            "type": "token",
            "text": " Hi",
            "final": False,
            "vad_end": False,
            "epoch": 1,
            "index": 2,
            "start": 3,
        },
        token(" Hi", epoch=1, index=2, start_s=3.0),
    ),
    (
        {"type": "word_end", "epoch": 1, "index": 2, "end": 3.5},
        gateway.WordEnd(epoch=1, index=2, end_s=3.5),
    ),
    (
        {"type": "vad_end", "text": "", "final": True, "vad_end": True, "epoch": 0},
        gateway.VadEnd(epoch=0),
    ),
    (
        {"type": "ack", "epoch": 0, "samples": 1920, "lag": 0, "prs": [1, 0.5]},
        gateway.Ack(epoch=0, samples=1920, prs=(1.0, 0.5)),
    ),
    ({"type": "ack", "samples": 0}, gateway.Ack(epoch=None, samples=0, prs=())),
    ({"type": "flushed", "id": 1, "epoch": 0}, gateway.Flushed(number=1)),
    ({"type": "flushed"}, gateway.Flushed(number=None)),
    ({"type": "was_reset", "id": 1, "epoch": 2}, gateway.WasReset(epoch=2)),
    ({"type": "ping"}, gateway.Ping()),
    ({"type": "draining", "deadline_s": 5}, gateway.Draining(deadline_s=5.0)),
    (
        {"type": "error", "code": "capacity", "message": "m", "retryable": False},
        gateway.Error(code="capacity", message="m", retryable=False),
    ),
    ({"type": "end"}, gateway.End()),
    # The older generations, kyutai-stt.md 2.1.
    ({"type": "token", "text": "Word"}, token("Word")),
    (
        {"type": "word", "text": "Word", "start": 1, "end": None},
        token("Word", start_s=1.0),
    ),
    ({"type": "vad_end"}, gateway.VadEnd(epoch=None)),
    (
        {"type": "error", "message": "m"},
        gateway.Error(code="", message="m", retryable=True),
    ),
    ({"type": "error", "code": 7}, gateway.Error(code="", message="", retryable=True)),
    ({"type": "final", "text": "all"}, untyped("all", True, False)),
    ({"text": "a", "final": False}, untyped("a", False, False)),
    ({"status": "complete"}, gateway.End()),
    ({"status": "warming"}, gateway.Unknown(kind="status")),
    ({"error": "bad"}, gateway.Error(code="", message="bad", retryable=True)),
    # The project document, with and without a type.
    ({"text": "", "final": True, "vad_end": True}, untyped("", True, True)),
    ({"type": "token", "text": "a", "vad_end": True}, untyped("a", False, True)),
    ({"text": "a", "error": None}, untyped("a", False, False)),
    # What nobody knows yet.
    ({"type": "hologram", "text": "a"}, gateway.Unknown(kind="hologram")),
    ({}, gateway.Unknown(kind="")),
]


@pytest.mark.parametrize(("message", "expected"), KNOWN)
def test_every_known_message(
    message: dict[str, Any], expected: gateway.GatewayMessage
) -> None:
    assert gateway.decode(json.dumps({**message, "new": [1]})) == expected


def test_defaults_of_ready() -> None:
    ready = gateway.decode('{"type":"ready"}')
    assert ready == gateway.Ready(
        protocol=1, delay_s=0.48, languages=(), acks=False, pause_horizons_s=()
    )


@pytest.mark.parametrize(
    "data",
    [
        "{not json",
        "[1, 2]",
        '"text"',
        "null",
        "",
        "[" * 100_000,
        '{"type":3}',
        '{"text":3}',
        '{"text":"a","final":"yes"}',
        '{"type":"token","text":null}',
        '{"type":"token","text":"a","index":1.5}',
        '{"type":"token","text":"a","index":true}',
        '{"type":"token","text":"a","index":1e400}',
        '{"type":"token","text":"a","epoch":99999999999999999999}',
        '{"type":"token","text":"a","start":1e999}',
        '{"type":"token","text":"a","start":NaN}',
        '{"type":"token","text":"a","start":99999999999999999999}',
        '{"type":"word_end","end":1}',
        '{"type":"word_end","index":1,"end":true}',
        '{"type":"ack"}',
        '{"type":"ack","samples":1,"prs":3}',
        '{"type":"ack","samples":1,"prs":[null]}',
        '{"type":"ready","languages":"en"}',
        '{"type":"ready","languages":[1]}',
        '{"type":"ready","acks":1}',
        '{"type":"ready","delay_ms":-1}',
        '{"type":"ready","delay_ms":60001}',
        '{"type":"draining","deadline_s":"soon"}',
    ],
)
def test_another_form_is_refused(data: str) -> None:
    with pytest.raises(ProtocolError):
        gateway.decode(data)


def test_binary_hints_at_the_other_backend() -> None:
    with pytest.raises(ProtocolError, match="moshi-server"):
        gateway.decode(b"\x81\xa4type\xa5Ready")


def test_half_characters_are_made_whole() -> None:
    decoded = gateway.decode('{"type":"token","text":"a\\ud800b \\ud83d\\ude00"}')
    assert decoded == token("a\ufffdb \U0001f600")


@pytest.mark.parametrize("code", ["a\ud800", "a\nb", "\x1b[2J", "a" * 65, 7, None])
def test_a_code_that_cannot_be_shown_is_none(code: object) -> None:
    decoded = gateway.decode(json.dumps({"type": "error", "code": code}))
    assert decoded == gateway.Error(code="", message="", retryable=True)


def test_speech_is_in_no_error_and_no_repr() -> None:
    for data in ('{"text":"secret"', '{"text":"secret","final":3}', '["secret"]'):
        with pytest.raises(ProtocolError) as caught:
            gateway.decode(data)
        assert "secret" not in str(caught.value)
        assert caught.value.__suppress_context__ or not caught.value.__context__
    for data in ('{"text":"secret"}', '{"type":"token","text":"secret"}'):
        assert "secret" not in repr(gateway.decode(data))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
kinds = st.sampled_from([*reading._DECODERS, "other"])
keys = ["text", "final", "vad_end", "epoch", "index", "start", "end", "samples", "prs"]
keys += ["id", "deadline_s", "code", "message", "retryable", "error", "status"]
keys += ["protocol", "delay_ms", "languages", "acks", "pause_horizons_s"]


# Loaded machines make the first example slow.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries({}, optional={"type": kinds | values}),
    st.dictionaries(st.sampled_from(keys), values),
    st.integers(0, 60),
    st.text(max_size=3),
)
def test_anything_decodes_or_is_refused(
    kind: dict[str, Any], fields: dict[str, Any], cut: int, tail: str
) -> None:
    data = json.dumps({**kind, **fields})
    for text in (data, data[:cut] + tail, tail):
        try:
            message = gateway.decode(text)
        except ProtocolError:
            continue
        assert isinstance(message, gateway.GatewayMessage)
        if isinstance(message, gateway.Token | gateway.Transcript):
            message.text.encode()
