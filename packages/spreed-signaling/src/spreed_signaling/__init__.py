# SPDX-License-Identifier: MIT
"""Client library for Nextcloud Talk's High-Performance Backend.

Signaling needs nothing but this package; media is in `spreed_signaling.media`
(extra `[media]`), servers to test against in `spreed_signaling.testing`.
"""

from ._events import EventStream
from .client import Client, ClientOptions, Room, connect
from .connection import TransportOptions
from .errors import (
    BackendNotAllowed,
    ConnectFailed,
    ConnectionLost,
    CredentialsRefused,
    EventsLagged,
    HelloRefused,
    InternalSecretRefused,
    MediaError,
    ProtocolViolation,
    RequestFailed,
    RequestTimeout,
    RoomApiError,
    RoomRefused,
    SessionEnded,
    SignalingError,
    TooManyAttempts,
    UsageError,
)
from .protocol.auth import Auth, InternalAuth, TicketAuth, TokenAuth
from .protocol.encryption import is_encryption_signal
from .protocol.events import (
    CallEnded,
    ControlReceived,
    DataReceived,
    Disconnected,
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
    RequestErrored,
    RoomJoined,
    RoomLeft,
    RoomUpdated,
    SessionEvent,
    SessionFinished,
    SessionResumed,
    SessionStarted,
    UnhandledMessage,
)
from .protocol.phases import Phase, SessionOptions, SessionStatus
from .types import IceServer, InCallFlags, Participant

__all__ = [
    "Auth",
    "BackendNotAllowed",
    "CallEnded",
    "Client",
    "ClientOptions",
    "ConnectFailed",
    "ConnectionLost",
    "ControlReceived",
    "CredentialsRefused",
    "DataReceived",
    "Disconnected",
    "EventStream",
    "EventsLagged",
    "HelloRefused",
    "IceServer",
    "InCallFlags",
    "InternalAuth",
    "InternalSecretRefused",
    "MediaError",
    "Participant",
    "ParticipantChanged",
    "ParticipantJoined",
    "ParticipantLeft",
    "Phase",
    "ProtocolViolation",
    "RequestErrored",
    "RequestFailed",
    "RequestTimeout",
    "Room",
    "RoomApiError",
    "RoomJoined",
    "RoomLeft",
    "RoomRefused",
    "RoomUpdated",
    "SessionEnded",
    "SessionEvent",
    "SessionFinished",
    "SessionOptions",
    "SessionResumed",
    "SessionStarted",
    "SessionStatus",
    "SignalingError",
    "TicketAuth",
    "TokenAuth",
    "TooManyAttempts",
    "TransportOptions",
    "UnhandledMessage",
    "UsageError",
    "connect",
    "is_encryption_signal",
]
