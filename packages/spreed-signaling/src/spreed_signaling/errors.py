# SPDX-License-Identifier: MIT
"""The one error tree of this library.

    SignalingError                  base; `retryable` says whether trying again can help
    ├── UsageError                  our caller's mistake, raised at once
    ├── ConnectFailed               no WebSocket: refused, DNS, TLS, time-out
    ├── ConnectionLost              an established connection broke
    ├── HelloRefused                the server refused the hello
    │   ├── InternalSecretRefused   wrong internal secret; retry rarely
    │   ├── BackendNotAllowed       the server does not know this Nextcloud
    │   ├── CredentialsRefused      ticket or token not accepted
    │   └── TooManyAttempts         this address is locked out for a while
    ├── RoomRefused                 joining the room failed
    ├── RequestFailed               an error answer to one request
    │   └── RequestTimeout          no answer in time
    ├── SessionEnded                the server ended the session for good
    ├── ProtocolViolation           the peer sent something that cannot be used
    ├── EventsLagged                a consumer of events was too slow
    ├── MediaError                  the media connection failed
    └── RoomApiError                the HTTP room API answered with an error

Errors carry data as attributes; `str()` is for people and holds no secrets.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BackendNotAllowed",
    "ConnectFailed",
    "ConnectionLost",
    "CredentialsRefused",
    "EventsLagged",
    "HelloRefused",
    "InternalSecretRefused",
    "MediaError",
    "ProtocolViolation",
    "RequestFailed",
    "RequestTimeout",
    "RoomApiError",
    "RoomRefused",
    "SessionEnded",
    "SignalingError",
    "TooManyAttempts",
    "UsageError",
    "hello_error",
]


class SignalingError(Exception):
    """Base of every error raised by this library. Never raised itself."""

    retryable = False
    """Whether the same attempt can succeed later without a human."""


class UsageError(SignalingError):
    """The library was called in a way that cannot work."""


class ConnectFailed(SignalingError):
    """No WebSocket connection could be opened."""

    retryable = True

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot reach the signaling server at {self.url}: {self.reason}"


class ConnectionLost(SignalingError):
    """The connection broke after it had been established."""

    retryable = True

    def __init__(self, reason: str, close_code: int | None = None) -> None:
        super().__init__(reason, close_code)
        self.reason = reason
        self.close_code = close_code

    def __str__(self) -> str:
        code = "" if self.close_code is None else f" (close code {self.close_code})"
        return f"connection to the signaling server lost: {self.reason}{code}"


class CodedError(SignalingError):
    """An error answer of the server with its `code`."""

    what = "the signaling server answered with an error"

    def __init__(self, code: str, message: str = "", details: Any = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.details = details

    def __str__(self) -> str:
        said = f": {self.message}" if self.message else ""
        return f"{self.what} [{self.code}]{said}"


class HelloRefused(CodedError):
    """The server refused our hello."""

    what = "the signaling server refused the session"

    @property
    def retryable(self) -> bool:  # type: ignore[override]  # depends on the code
        """Transient server-side failures may be tried again."""
        return self.code in {"internal_error", "session_limit_exceeded"}


class InternalSecretRefused(HelloRefused):
    """The internal secret is not the server's.

    Retried rarely: ten failures in 30 minutes block the whole address.
    """

    what = (
        "the signaling server refused the internal secret; set it to the value of "
        "`internalsecret` in the server's [clients] section (it is not the shared "
        "secret of Talk's admin page)"
    )


class BackendNotAllowed(HelloRefused):
    """The server has no backend for this Nextcloud URL."""

    what = (
        "the signaling server does not know this Nextcloud; the backend URL must "
        "start with a `url` of the server's [backend] section"
    )


class CredentialsRefused(HelloRefused):
    """Ticket or token were not accepted."""

    what = "the signaling server refused the credentials; request new ones"


class TooManyAttempts(HelloRefused):
    """The server throttles this address after repeated failures."""

    what = "the signaling server blocks this address after too many failed attempts"


class RoomRefused(CodedError):
    """Joining the room failed."""

    what = "joining the room failed"

    @property
    def retryable(self) -> bool:  # type: ignore[override]  # depends on the code
        """Backend trouble may pass; a missing room will not come by itself."""
        return self.code in {"internal_error", "room_join_failed"}


class RequestFailed(CodedError):
    """The server answered one request with an error."""

    what = "the request failed"

    @property
    def retryable(self) -> bool:  # type: ignore[override]  # depends on the code
        """MCU errors are per target and pass; format errors do not."""
        return self.code in {
            "client_not_found",
            "internal_error",
            "not_allowed",
            "processing_failed",
            "timeout",
        }


class RequestTimeout(RequestFailed):
    """No answer came within the time the request was given."""

    def __init__(self, what: str, timeout_s: float) -> None:
        super().__init__("timeout", f"{what}: no answer within {timeout_s:g} s")
        self.timeout_s = timeout_s


class SessionEnded(SignalingError):
    """The server ended the session and reconnecting would be wrong.

    Source:
        `bye` reasons `session_resumed` and `room_session_reconnected`: another
        connection took over; a `disinvite` from the current room.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the signaling server ended the session: {self.reason}"


class ProtocolViolation(SignalingError):
    """The peer sent something that cannot be used."""


class EventsLagged(SignalingError):
    """A consumer fell so far behind that its event stream was closed."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"events were not consumed in time ({self.limit} waiting)"


class MediaError(SignalingError):
    """A media connection could not be made or broke."""

    retryable = True


class RoomApiError(SignalingError):
    """The signaling server's HTTP API answered with an error."""

    def __init__(self, status: int | None, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        status = "no answer" if self.status is None else f"HTTP {self.status}"
        return f"room API of the signaling server: {status}, {self.reason}"

    @property
    def retryable(self) -> bool:  # type: ignore[override]  # depends on the status
        """Network trouble, throttling and server errors may pass."""
        return self.status is None or self.status == 429 or self.status >= 500


_CREDENTIAL_CODES = {
    "auth_failed",
    "invalid_request",
    "invalid_ticket",
    "invalid_token",
    "no_such_user",
    "token_expired",
    "token_not_valid_yet",
}


def hello_error(
    code: str, message: str = "", details: Any = None, *, internal: bool = False
) -> HelloRefused:
    """Return the error class that fits a refused hello.

    Args:
        code: The server's error code.
        message: The server's words.
        details: Any JSON.
        internal: Whether an internal secret was used.
    """
    kind: type[HelloRefused] = HelloRefused
    if internal and code in {"invalid_token", "auth_failed", "invalid_client_type"}:
        # `invalid_client_type`: the server has no internal secret at all.
        kind = InternalSecretRefused
    elif code == "invalid_backend":
        kind = BackendNotAllowed
    elif code == "too_many_requests":
        kind = TooManyAttempts
    elif code in _CREDENTIAL_CODES:
        kind = CredentialsRefused
    return kind(code, message, details)
