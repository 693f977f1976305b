"""The error tree: one base, data as attributes, a verdict on retrying."""

from __future__ import annotations

import inspect
import re

import pytest

from spreed_signaling import errors
from spreed_signaling.errors import (
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
    hello_error,
)

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, SignalingError)
]


class TestTree:
    def test_the_drawing_shows_every_public_class(self) -> None:
        drawn = set(re.findall(r"^    [│├└─ ]*(\w+)  +\w", errors.__doc__ or "", re.M))
        public = {
            name for name in errors.__all__ if inspect.isclass(vars(errors)[name])
        }
        assert drawn == public

    def test_no_builtin_is_shadowed(self) -> None:
        import builtins

        assert not {kind.__name__ for kind in CLASSES} & set(dir(builtins))


class TestHelloError:
    @pytest.mark.parametrize(
        ("code", "internal", "kind", "retryable"),
        [
            ("invalid_token", True, InternalSecretRefused, False),
            ("auth_failed", True, InternalSecretRefused, False),
            ("invalid_client_type", True, InternalSecretRefused, False),
            ("invalid_token", False, CredentialsRefused, False),
            ("auth_failed", False, CredentialsRefused, False),
            ("invalid_request", False, CredentialsRefused, False),
            ("invalid_ticket", False, CredentialsRefused, False),
            ("no_such_user", False, CredentialsRefused, False),
            ("token_expired", False, CredentialsRefused, False),
            ("token_not_valid_yet", False, CredentialsRefused, False),
            ("invalid_backend", True, BackendNotAllowed, False),
            ("invalid_backend", False, BackendNotAllowed, False),
            ("too_many_requests", True, TooManyAttempts, False),
            ("internal_error", True, HelloRefused, True),
            ("session_limit_exceeded", False, HelloRefused, True),
            ("invalid_client_type", False, HelloRefused, False),
            ("novel", True, HelloRefused, False),
        ],
    )
    def test_codes(
        self, code: str, internal: bool, kind: type[HelloRefused], retryable: bool
    ) -> None:
        error = hello_error(code, "words", {"a": 1}, internal=internal)
        assert type(error) is kind
        assert (error.code, error.message, error.details) == (code, "words", {"a": 1})
        assert error.retryable is retryable


class TestVerdicts:
    @pytest.mark.parametrize(
        ("error", "retryable"),
        [
            (ConnectFailed("wss://hpb.example", "refused"), True),
            (ConnectionLost("gone"), True),
            (RoomRefused("room_join_failed"), True),
            (RoomRefused("internal_error"), True),
            (RoomRefused("no_such_room"), False),
            (RequestFailed("client_not_found"), True),
            (RequestFailed("processing_failed"), True),
            (RequestFailed("not_allowed"), True),
            (RequestFailed("invalid_format"), False),
            (RequestTimeout("joining", 12.0), True),
            (SessionEnded("session_resumed"), False),
            (UsageError("misuse"), False),
            (ProtocolViolation("odd"), False),
            (EventsLagged(10), False),
            (MediaError("no candidates"), True),
            (RoomApiError(None, "refused"), True),
            (RoomApiError(429, "throttled"), True),
            (RoomApiError(503, "down"), True),
            (RoomApiError(403, "checksum"), False),
        ],
    )
    def test_retryable(self, error: SignalingError, retryable: bool) -> None:
        assert error.retryable is retryable


class TestText:
    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (
                ConnectFailed("wss://hpb.example", "refused"),
                "cannot reach the signaling server at wss://hpb.example: refused",
            ),
            (
                ConnectionLost("broken", 1006),
                "connection to the signaling server lost: broken (close code 1006)",
            ),
            (
                ConnectionLost("broken"),
                "connection to the signaling server lost: broken",
            ),
            (RequestFailed("x"), "the request failed [x]"),
            (RequestFailed("x", "why"), "the request failed [x]: why"),
            (
                RequestTimeout("joining", 12.0),
                "the request failed [timeout]: joining: no answer within 12 s",
            ),
            (SessionEnded("gone"), "the signaling server ended the session: gone"),
            (EventsLagged(8), "events were not consumed in time (8 waiting)"),
            (
                RoomApiError(403, "no"),
                "room API of the signaling server: HTTP 403, no",
            ),
            (
                RoomApiError(None, "no"),
                "room API of the signaling server: no answer, no",
            ),
        ],
    )
    def test_for_people(self, error: SignalingError, text: str) -> None:
        assert str(error) == text

    def test_data_are_attributes(self) -> None:
        assert ConnectionLost("x", 1006).close_code == 1006
        assert RequestTimeout("x", 3.0).timeout_s == 3.0
        assert RoomApiError(403, "no").status == 403

    def test_details_may_hold_anything_and_stay_out_of_the_text(self) -> None:
        assert "PRIVATE" not in str(RoomRefused("x", "y", {"ticket": "PRIVATE"}))
