"""Every recorded message survives parsing and serialising."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from spreed_signaling.errors import ProtocolViolation
from spreed_signaling.protocol._codec import Model
from spreed_signaling.protocol.backend import parse_backend, parse_room_api
from spreed_signaling.protocol.messages import (
    Bye,
    ErrorMessage,
    HelloReply,
    Message,
    Unknown,
    serialise,
)
from spreed_signaling.protocol.parsing import parse_client, parse_server
from spreed_signaling.protocol.server_events import Event

FIXTURES = Path(__file__).parents[2] / "fixtures"

Parser = Callable[[str], Message]


def recorded() -> Iterator[tuple[Parser, dict[str, Any]]]:
    """All recorded frames with the parser of their direction."""
    parsers: dict[str, Parser] = {
        "send": parse_client,
        "recv": parse_server,
        "client->server": parse_client,
        "server->client": parse_server,
        "POST": parse_backend,
        "reply": parse_backend,
        "room-api": parse_room_api,
    }
    for line in (FIXTURES / "signaling-trace.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["dir"] in parsers:
            yield parsers[entry["dir"]], entry["msg"]
    for line in (FIXTURES / "talk-client-messages.jsonl").read_text().splitlines():
        entry = json.loads(line)
        yield parsers[entry["direction"]], entry["message"]


def unknown_keys(model: Model) -> Iterator[str]:
    """Names of everything the models do not cover, at any depth."""
    for key in model.extra:
        yield f"{type(model).__name__}.{key}"
    for name in (a.name for a in attrs.fields(type(model))):
        value = getattr(model, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Model):
                yield from unknown_keys(item)


def test_recorded_messages_lose_nothing() -> None:
    count = 0
    for parser, frame in recorded():
        message = parser(json.dumps(frame))
        assert not isinstance(message, Unknown), frame
        assert json.loads(serialise(message)) == frame
        assert not message.envelope
        count += 1
    assert count > 500


def test_recorded_messages_are_covered_by_named_fields() -> None:
    left = {
        key
        for parser, frame in recorded()
        for key in unknown_keys(parser(json.dumps(frame)))
    }
    # The stand-in of the recordings answered a leave with `"properties": null`.
    assert left == {"BackendRoom.properties"}


def test_unknown_type_is_kept() -> None:
    message = parse_server('{"type":"novelty","id":"7","novelty":{"a":[1]}}')
    assert isinstance(message, Unknown)
    assert message.id == "7"
    assert json.loads(serialise(message))["novelty"] == {"a": [1]}


def test_unknown_keys_are_kept_at_every_level() -> None:
    frame = {
        "type": "event",
        "seen": 1,
        "event": {
            "target": "participants",
            "type": "update",
            "later": None,
            "update": {"users": [{"sessionId": "a", "mood": "happy"}], "all": "yes"},
        },
    }
    message = parse_server(json.dumps(frame))
    assert isinstance(message, Event)
    assert message.to_envelope() == frame
    assert message.update is not None
    assert message.update.users is not None
    assert message.update.users[0].session_id == "a"
    assert message.update.all is None


@pytest.mark.parametrize("details", ["text", {"a": 1}, [1], 3, False])
def test_error_details_are_any_json(details: Any) -> None:
    frame = {"type": "error", "id": "1", "error": {"code": "x", "details": details}}
    message = parse_server(json.dumps(frame))
    assert isinstance(message, ErrorMessage)
    assert message.details == details
    assert message.to_envelope() == frame


def test_bye_answer_without_body() -> None:
    message = parse_server('{"id":"9","type":"bye"}')
    assert isinstance(message, Bye)
    assert message.to_envelope() == {"id": "9", "type": "bye"}


def test_secrets_and_speech_stay_out_of_repr() -> None:
    hello = parse_server(
        '{"type":"hello","hello":{"sessionid":"public","resumeid":"PRIVATE"}}'
    )
    assert isinstance(hello, HelloReply)
    assert "PRIVATE" not in repr(hello)
    assert "public" in repr(hello)
    frames = [
        '{"type":"hello","hello":{"auth":{"params":{"ticket":"PRIVATE"}}}}',
        '{"type":"message","message":{"data":{"message":"PRIVATE"}}}',
        '{"type":"room","room":{"federation":{"token":"PRIVATE"}}}',
    ]
    for frame in frames:
        assert "PRIVATE" not in repr(parse_client(frame))


@pytest.mark.parametrize("text", ["", "[]", "1", "{}", '{"type":1}', "nonsense"])
def test_unusable_frames_are_refused(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        parse_server(text)


@pytest.mark.parametrize("body", ["null", "3", '"x"', "[]", "{}"])
@pytest.mark.parametrize("kind", ["hello", "room", "event", "message", "error", "bye"])
def test_odd_bodies_never_raise(kind: str, body: str) -> None:
    frame = f'{{"type":"{kind}","{kind}":{body}}}'
    message = parse_server(frame)
    assert json.loads(serialise(message)) == json.loads(frame)
