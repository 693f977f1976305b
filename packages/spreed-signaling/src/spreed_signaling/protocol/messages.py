# SPDX-License-Identifier: MIT
"""Every message of the signaling API as a frozen class.

Both directions use the same envelope, `{"id"?, "type": T, T: {...}}`.
`parse_server` and `parse_client` turn a text frame into a message, `serialise`
turns a message into a frame. Unknown types become `Unknown`, unknown keys stay
in `extra`: nothing is dropped. Events are in `server_events.py`.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`; shapes
    checked against recordings of HPB 0.4.1, 1.2.4 and 2.0.2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import attrs
from attrs import field, frozen

from ..errors import ProtocolViolation, UsageError
from ._codec import Model, json_field

__all__ = [
    "Bye",
    "ClientHello",
    "Control",
    "DataMessage",
    "DialoutMessage",
    "ErrorMessage",
    "HelloAuth",
    "HelloReply",
    "InCallBody",
    "InternalMessage",
    "Message",
    "Party",
    "RoomMessage",
    "ServerInfo",
    "TransientMessage",
    "Unknown",
    "Welcome",
    "decode_frame",
    "serialise",
]


@frozen(kw_only=True)
class Message(Model):
    """Base of all messages; declared fields are those of the inner object."""

    type: ClassVar[str]
    id: str | None = None
    """Correlates a request with its answer or error."""
    envelope: Mapping[str, Any] = field(factory=dict, repr=False)
    """Unknown keys beside `id`, `type` and the inner object."""
    bare: bool = field(default=False, repr=False)
    """The inner object was absent, as in HPB 2.0.2's answer to `bye`."""

    @classmethod
    def from_envelope(cls, data: Mapping[str, Any]) -> Self:
        """Read a whole frame of this type."""
        rest = {key: value for key, value in data.items() if key != "type"}
        message_id = rest.pop("id") if isinstance(rest.get("id"), str) else None
        bare = not isinstance(rest.get(cls.type), dict)
        body = cls.from_json({} if bare else rest.pop(cls.type))
        return attrs.evolve(body, id=message_id, envelope=rest, bare=bare)

    def to_envelope(self) -> dict[str, Any]:
        """Return the whole frame as a JSON object."""
        data: dict[str, Any] = {} if self.id is None else {"id": self.id}
        data["type"] = self.type
        inner = self.to_json()
        if inner or not self.bare:
            data[self.type] = inner
        data.update(self.envelope)
        return data


# Values inside messages.


@frozen(kw_only=True)
class Party(Model):
    """A sender or recipient: a session, a user, the room or the call."""

    type: str | None = json_field("str", "type")
    session_id: str | None = json_field("str", "sessionid")
    user_id: str | None = json_field("str", "userid")

    @classmethod
    def session(cls, session_id: str) -> Party:
        """Address one session."""
        return cls(type="session", session_id=session_id)

    @classmethod
    def room(cls) -> Party:
        """Address everybody in the room."""
        return cls(type="room")


@frozen(kw_only=True)
class ServerInfo(Model):
    """Version and features inside the answer to a hello."""

    version: str | None = json_field("str", "version")
    features: tuple[str, ...] | None = json_field("strings", "features")


@frozen(kw_only=True)
class HelloAuth(Model):
    """The `auth` object of a hello."""

    type: str | None = json_field("str", "type")
    """`internal`, `federation`, or absent for users and guests."""
    url: str | None = json_field("str", "url")
    params: dict[str, Any] | None = json_field("object", "params", secret=True)


@frozen(kw_only=True)
class InCallBody(Model):
    """The `incall` object of an internal message."""

    in_call: int | None = json_field("int", "incall")


# Messages of both directions.


@frozen(kw_only=True)
class Welcome(Message):
    """First frame of a server >= 1.0."""

    type: ClassVar[str] = "welcome"
    version: str | None = json_field("str", "version")
    features: tuple[str, ...] | None = json_field("strings", "features")
    country: str | None = json_field("str", "country")


@frozen(kw_only=True)
class ClientHello(Message):
    """Opens a session, or resumes one with `resume_id`."""

    type: ClassVar[str] = "hello"
    version: str | None = json_field("str", "version")
    resume_id: str | None = json_field("str", "resumeid", secret=True)
    features: tuple[str, ...] | None = json_field("strings", "features")
    auth: HelloAuth | None = json_field(HelloAuth, "auth")


@frozen(kw_only=True)
class HelloReply(Message):
    """The server's answer to a hello."""

    type: ClassVar[str] = "hello"
    version: str | None = json_field("str", "version")
    session_id: str | None = json_field("str", "sessionid")
    resume_id: str | None = json_field("str", "resumeid", secret=True)
    user_id: str | None = json_field("str", "userid")
    server: ServerInfo | None = json_field(ServerInfo, "server")


@frozen(kw_only=True)
class RoomMessage(Message):
    """Join (or with an empty `room_token` leave) a room, and the answer to it."""

    type: ClassVar[str] = "room"
    room_token: str | None = json_field("str", "roomid")
    nc_session_id: str | None = json_field("str", "sessionid")
    """Nextcloud's session id; internal clients omit it."""
    properties: dict[str, Any] | None = json_field("object", "properties")
    bandwidth: dict[str, Any] | None = json_field("object", "bandwidth")
    federation: dict[str, Any] | None = json_field("object", "federation", secret=True)


@frozen(kw_only=True)
class ErrorMessage(Message):
    """An error; `id` names the request it answers, if any."""

    type: ClassVar[str] = "error"
    code: str | None = json_field("str", "code")
    message: str | None = json_field("str", "message")
    details: Any = json_field("any", "details")
    """Any JSON, not necessarily a string."""


@frozen(kw_only=True)
class Bye(Message):
    """Ends the session; the socket closes right after."""

    type: ClassVar[str] = "bye"
    reason: str | None = json_field("str", "reason")


@frozen(kw_only=True)
class DataMessage(Message):
    """Application data or media signaling between sessions."""

    type: ClassVar[str] = "message"
    sender: Party | None = json_field(Party, "sender")
    recipient: Party | None = json_field(Party, "recipient")
    data: Any = json_field("any", "data", secret=True)


@frozen(kw_only=True)
class Control(Message):
    """Like `DataMessage`, for privileged commands such as a forced mute."""

    type: ClassVar[str] = "control"
    sender: Party | None = json_field(Party, "sender")
    recipient: Party | None = json_field(Party, "recipient")
    data: Any = json_field("any", "data", secret=True)


@frozen(kw_only=True)
class InternalMessage(Message):
    """Commands of internal clients; `kind` names the sub-object."""

    type: ClassVar[str] = "internal"
    kind: str | None = json_field("str", "type")
    in_call: InCallBody | None = json_field(InCallBody, "incall")
    add_session: dict[str, Any] | None = json_field("object", "addsession")
    update_session: dict[str, Any] | None = json_field("object", "updatesession")
    remove_session: dict[str, Any] | None = json_field("object", "removesession")
    dialout: dict[str, Any] | None = json_field("object", "dialout")


@frozen(kw_only=True)
class TransientMessage(Message):
    """Shared data of a room: `set`, `remove`, or `initial` on joining."""

    type: ClassVar[str] = "transient"
    kind: str | None = json_field("str", "type")
    key: str | None = json_field("str", "key")
    value: Any = json_field("any", "value")
    old_value: Any = json_field("any", "oldvalue")
    data: dict[str, Any] | None = json_field("object", "data")
    ttl_ns: int | None = json_field("int", "ttl")
    """Nanoseconds."""


@frozen(kw_only=True)
class DialoutMessage(Message):
    """A dialout failure relayed to the room."""

    type: ClassVar[str] = "dialout"
    kind: str | None = json_field("str", "type")
    error: dict[str, Any] | None = json_field("object", "error")


@frozen(kw_only=True)
class Unknown(Message):
    """A message of a type this library does not know; `raw` holds all of it."""

    type: ClassVar[str] = "unknown"
    raw: Mapping[str, Any] = field(factory=dict, repr=False)

    def to_envelope(self) -> dict[str, Any]:
        """Return the frame as it came."""
        return dict(self.raw)


def decode_frame(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object of one frame.

    Raises:
        ProtocolViolation: If the frame is not a JSON object with a `type`.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        # RecursionError: valid JSON, but nested beyond all reason.
        raise ProtocolViolation("frame is not JSON") from exc
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise ProtocolViolation("frame is not a JSON object with a `type`")
    return data


def serialise(message: Message) -> str:
    """Return the text frame of a message.

    Raises:
        UsageError: If it holds something that JSON cannot express.
    """
    try:
        return json.dumps(message.to_envelope(), separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise UsageError(f"message cannot be sent as JSON: {exc}") from exc
