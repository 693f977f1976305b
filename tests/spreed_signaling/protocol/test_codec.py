"""JSON objects lose nothing on their way through a class."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spreed_signaling.errors import ProtocolViolation, UsageError
from spreed_signaling.protocol._codec import Model, json_field
from spreed_signaling.protocol.messages import (
    DataMessage,
    InternalMessage,
    decode_frame,
    serialise,
)
from spreed_signaling.protocol.parsing import parse_client, parse_server
from spreed_signaling.protocol.server_events import UpdateBody


@frozen(kw_only=True)
class Inner(Model):
    name: str | None = json_field("str", "name")


@frozen(kw_only=True)
class Outer(Model):
    count: int | None = json_field("int", "count")
    flag: bool | None = json_field("bool", "flag")
    words: tuple[str, ...] | None = json_field("strings", "words")
    one: Inner | None = json_field(Inner, "one")
    many: tuple[Inner, ...] | None = json_field(Inner, "many", many=True)
    free: Any = json_field("any", "free")


# Machines under load are slow; that is no finding.
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXT = st.text('aé\U0001f600\\"\0', max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(["count", "flag", "words", "one", "many", "free", "other"])


def test_known_keys() -> None:
    raw = {
        "count": 3,
        "flag": False,
        "words": ["a"],
        "one": {"name": "x"},
        "many": [{"name": "y"}],
        "free": [1],
    }
    value = Outer.from_json(raw)
    assert (value.count, value.flag, value.words) == (3, False, ("a",))
    assert value.one == Inner(name="x")
    assert value.many == (Inner(name="y"),)
    assert value.extra == {}
    assert value.to_json() == raw


@pytest.mark.parametrize(
    "raw",
    [
        {"count": True},
        {"count": 1.5},
        {"flag": 1},
        {"words": "a"},
        {"one": []},
        {"many": {}},
        {"free": None},
    ],
)
def test_values_of_other_types_stay_in_extra(raw: dict[str, Any]) -> None:
    value = Outer.from_json(raw)
    assert value == Outer(extra=raw)
    assert value.to_json() == raw


def test_lists_are_read_without_their_odd_entries() -> None:
    raw = {"words": ["a", 3, "b"], "many": [None, {"name": "x"}]}
    value = Outer.from_json(raw)
    assert value.words == ("a", "b")
    assert value.many == (Inner(name="x"),)
    assert value.to_json() == raw


@calm
@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_any_object_survives(raw: dict[str, Any]) -> None:
    assert Outer.from_json(raw).to_json() == raw
    assert UpdateBody.from_json(raw).to_json() == raw


@calm
@given(
    st.sampled_from(["hello", "room", "event", "message", "error", "novel"]),
    JSON,
    st.dictionaries(TEXT, JSON, max_size=2),
)
def test_any_frame_survives(kind: str, body: Any, rest: dict[str, Any]) -> None:
    frame = {**rest, "type": kind, kind: body}
    for parse in (parse_client, parse_server):
        assert decode_frame(serialise(parse(serialise_raw(frame)))) == frame


def serialise_raw(frame: dict[str, Any]) -> str:
    inner = DataMessage(data=frame)
    return serialise(inner)[len('{"type":"message","message":{"data":') : -len("}}")]


def test_endless_nesting_is_refused() -> None:
    with pytest.raises(ProtocolViolation):
        decode_frame('{"type":"a","a":' * 100_000)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x"])
def test_values_beyond_json_are_the_callers_mistake(value: object) -> None:
    with pytest.raises(UsageError, match="JSON"):
        serialise(InternalMessage(kind="x", dialout={"v": value}))


def test_circles_are_the_callers_mistake() -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    with pytest.raises(UsageError, match="JSON"):
        serialise(DataMessage(data=circle))
