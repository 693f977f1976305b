# SPDX-License-Identifier: MIT
"""Every error this library raises.

```
KyutaiStreamError                 abstract; `retryable` decides retry or give up
├── ConfigError                   ours: bad setting, unknown backend, name clash
├── AudioFormatError              ours: dtype, shape, rate, odd byte count, NaN
├── AuthError                     theirs: credentials refused
├── ProtocolError                 theirs: something that cannot be understood
├── BackendUnavailable            extra missing, plug-in broken, retries spent
├── CapacityError                 theirs, retryable: no free place (`retry_after_s`)
├── ConnectFailed                 retryable: refused, not ready in time
└── ConnectionLost                retryable: a working connection ended
```

The session reads `retryable` and nothing else to decide whether to try again.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AudioFormatError",
    "AuthError",
    "BackendUnavailable",
    "CapacityError",
    "ConfigError",
    "ConnectFailed",
    "ConnectionLost",
    "KyutaiStreamError",
    "ProtocolError",
]


class KyutaiStreamError(Exception):
    """Base of all errors of this library; only its subclasses are raised."""

    retryable: ClassVar[bool] = False
    """Whether the same attempt may succeed later without anybody's help."""

    def __init__(self, message: str) -> None:
        if type(self) is KyutaiStreamError:
            raise TypeError("KyutaiStreamError is abstract: raise a subclass")
        super().__init__(message)


class ConfigError(KyutaiStreamError):
    """A setting is wrong: unknown backend, bad address, name clash, language."""


class AudioFormatError(KyutaiStreamError):
    """Audio has a wrong dtype, shape, rate or byte count, or holds NaN."""


class AuthError(KyutaiStreamError):
    """The server refused the credentials (HTTP 401 or 403)."""


class ProtocolError(KyutaiStreamError):
    """The other side sent something that cannot be understood."""


class BackendUnavailable(KyutaiStreamError):
    """The backend cannot run here: extra missing, plug-in broken, retries spent."""


class CapacityError(KyutaiStreamError):
    """The server works but has no free place.

    Args:
        message: What was refused, for people.
        retry_after_s: Seconds the server asked to wait, if it said so.
    """

    retryable: ClassVar[bool] = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ConnectFailed(KyutaiStreamError):
    """No connection came about: refused, not found, or not ready in time."""

    retryable: ClassVar[bool] = True


class ConnectionLost(KyutaiStreamError):
    """A connection that had worked ended without being asked to."""

    retryable: ClassVar[bool] = True
