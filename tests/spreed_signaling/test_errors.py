"""The error tree: one base, data as attributes, a verdict on retrying."""

from __future__ import annotations

import inspect
import re

import pytest

from spreed_signaling import errors
from spreed_signaling.errors import SignalingError, UsageError, hello_error

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
            ("invalid_token", True, errors.InternalSecretRefused, False),
            ("auth_failed", True, errors.InternalSecretRefused, False),
            ("invalid_client_type", True, errors.InternalSecretRefused, False),
            ("invalid_token", False, errors.CredentialsRefused, False),
            ("auth_failed", False, errors.CredentialsRefused, False),
            ("invalid_request", False, errors.CredentialsRefused, False),
            ("invalid_ticket", False, errors.CredentialsRefused, False),
            ("no_such_user", False, errors.CredentialsRefused, False),
            ("token_expired", False, errors.CredentialsRefused, False),
            ("token_not_valid_yet", False, errors.CredentialsRefused, False),
            ("invalid_backend", True, errors.BackendNotAllowed, False),
            ("invalid_backend", False, errors.BackendNotAllowed, False),
            ("too_many_requests", True, errors.TooManyAttempts, False),
            ("internal_error", True, errors.HelloRefused, True),
            ("session_limit_exceeded", False, errors.HelloRefused, True),
            ("invalid_client_type", False, errors.HelloRefused, False),
            ("novel", True, errors.HelloRefused, False),
        ],
    )
    def test_codes(
        self,
        code: str,
        internal: bool,
        kind: type[errors.HelloRefused],
        retryable: bool,
    ) -> None:
        error = hello_error(code, "words", {"a": 1}, internal=internal)
        assert type(error) is kind
        assert (error.code, error.message, error.details) == (code, "words", {"a": 1})
        assert error.retryable is retryable


class TestVerdicts:
    @pytest.mark.parametrize(
        ("error", "retryable"),
        [
            (errors.ConnectFailed("wss://hpb.example", "refused"), True),
            (errors.ConnectionLost("gone"), True),
            (errors.RoomRefused("room_join_failed"), True),
            (errors.RoomRefused("internal_error"), True),
            (errors.RoomRefused("no_such_room"), False),
            (errors.RequestFailed("client_not_found"), True),
            (errors.RequestFailed("processing_failed"), True),
            (errors.RequestFailed("not_allowed"), True),
            (errors.RequestFailed("invalid_format"), False),
            (errors.RequestTimeout("joining", 12.0), True),
            (errors.SessionEnded("session_resumed"), False),
            (UsageError("misuse"), False),
            (errors.ProtocolViolation("odd"), False),
            (errors.EventsLagged(10), False),
            (errors.MediaError("no candidates"), True),
            (errors.RoomApiError(None, "refused"), True),
            (errors.RoomApiError(429, "throttled"), True),
            (errors.RoomApiError(503, "down"), True),
            (errors.RoomApiError(403, "checksum"), False),
        ],
    )
    def test_retryable(self, error: SignalingError, retryable: bool) -> None:
        assert error.retryable is retryable


class TestText:
    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (
                errors.ConnectFailed("wss://hpb.example", "refused"),
                "cannot reach the signaling server at wss://hpb.example: refused",
            ),
            (
                errors.ConnectionLost("broken", 1006),
                "connection to the signaling server lost: broken (close code 1006)",
            ),
            (
                errors.ConnectionLost("broken"),
                "connection to the signaling server lost: broken",
            ),
            (errors.RequestFailed("x"), "the request failed [x]"),
            (errors.RequestFailed("x", "why"), "the request failed [x]: why"),
            (
                errors.RequestTimeout("joining", 12.0),
                "the request failed [timeout]: joining: no answer within 12 s",
            ),
            (
                errors.SessionEnded("gone"),
                "the signaling server ended the session: gone",
            ),
            (errors.EventsLagged(8), "events were not consumed in time (8 waiting)"),
            (
                errors.RoomApiError(403, "no"),
                "room API of the signaling server: HTTP 403, no",
            ),
            (
                errors.RoomApiError(None, "no"),
                "room API of the signaling server: no answer, no",
            ),
        ],
    )
    def test_for_people(self, error: SignalingError, text: str) -> None:
        assert str(error) == text

    def test_data_are_attributes(self) -> None:
        assert errors.ConnectionLost("x", 1006).close_code == 1006
        assert errors.RequestTimeout("x", 3.0).timeout_s == 3.0
        assert errors.RoomApiError(403, "no").status == 403

    def test_details_may_hold_anything_and_stay_out_of_the_text(self) -> None:
        assert "PRIVATE" not in str(errors.RoomRefused("x", "y", {"ticket": "PRIVATE"}))
