"""Protocol 1 as text: what is built is JSON, what is read never raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_gateway.stream import messages
from kyutai_gateway.stream.messages import Control, parse_control
from kyutai_stream import Capabilities
from kyutai_stream.wire import gateway

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(st.text() | json_values.map(json.dumps))
def test_no_text_is_too_strange(text: str) -> None:
    control = parse_control(text)
    assert control is None or control.kind in ("flush", "reset", "eos")


@given(
    kind=st.sampled_from(["flush", "reset", "eos", "dance", 3, None]),
    number=json_values,
)
def test_controls(kind: Any, number: Any) -> None:
    control = parse_control(json.dumps({"type": kind, "id": number, "x": [1]}))
    whole = type(number) is int and -(2**63) <= number < 2**63
    if kind in ("flush", "reset", "eos") and (number is None or whole):
        assert control == Control(kind=kind, id=number)
    else:
        assert control is None


def test_a_long_control_is_none() -> None:
    assert parse_control('{"type":"eos"' + " " * 5000 + "}") is None
    assert parse_control("[" * 4000) is None


def test_a_number_that_fits_nowhere_is_none() -> None:
    assert parse_control(f'{{"type":"flush","id":{2**63}}}') is None
    assert parse_control(f'{{"type":"flush","id":{-(2**63)}}}') is not None


@given(
    text=st.text(),
    epoch=st.integers(0, 10**6),
    index=st.integers(0, 10**6),
    start=st.floats(0, 1e6),
)
def test_the_client_reads_what_is_built(
    text: str, epoch: int, index: int, start: float
) -> None:
    token = gateway.decode(messages.token(epoch, index, text, start))
    assert isinstance(token, gateway.Token)
    assert (token.epoch, token.index) == (epoch, index)
    assert token.start_s == pytest.approx(start, abs=0.001)
    if not any(0xD800 <= ord(one) < 0xE000 for one in text):
        assert token.text == f" {text}"
    raw = json.loads(messages.token(epoch, index, text, start))
    assert (raw["final"], raw["vad_end"]) == (False, False)
    end = gateway.decode(messages.word_end(epoch, index, start))
    assert isinstance(end, gateway.WordEnd)
    assert (end.epoch, end.index) == (epoch, index)
    vad_end = json.loads(messages.vad_end(epoch, start))
    assert (vad_end["text"], vad_end["final"], vad_end["vad_end"]) == ("", True, True)
    assert isinstance(gateway.decode(json.dumps(vad_end)), gateway.VadEnd)


@given(st.lists(st.floats(0, 1), max_size=6), st.integers(0, 2**40))
def test_acks(prs: list[float], samples: int) -> None:
    ack = gateway.decode(messages.ack(2, samples, 1920, tuple(prs)))
    assert isinstance(ack, gateway.Ack)
    assert (ack.epoch, ack.samples) == (2, samples)
    assert ack.prs == pytest.approx(prs, abs=0.0006)


def test_the_others() -> None:
    able = Capabilities(languages=("en",), acks=True, nominal_delay_s=0.48)
    ready = gateway.decode(messages.ready("m", able))
    assert isinstance(ready, gateway.Ready)
    assert (ready.protocol, ready.acks, ready.delay_s) == (1, True, 0.48)
    assert gateway.decode(messages.PING) == gateway.Ping()
    assert gateway.decode(messages.END) == gateway.End()
    assert gateway.decode(messages.draining(3.5)) == gateway.Draining(deadline_s=3.5)
    assert gateway.decode(messages.flushed(7, 1)) == gateway.Flushed(number=7)
    assert gateway.decode(messages.flushed(None, 1)) == gateway.Flushed(number=None)
    assert gateway.decode(messages.was_reset(7, 2)) == gateway.WasReset(epoch=2)
    error = gateway.decode(messages.error("capacity", "full", retryable=True))
    assert error == gateway.Error(code="capacity", message="full", retryable=True)
