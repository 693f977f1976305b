# SPDX-License-Identifier: MIT
"""Signatures and hello parameters: pure functions and values.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`, "Establish
    connection", "Internal clients" and "Backend requests".
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Protocol

from attrs import field, frozen

from ..errors import UsageError
from .messages import HelloAuth

__all__ = [
    "BACKEND_PATH",
    "Auth",
    "InternalAuth",
    "TicketAuth",
    "TokenAuth",
    "backend_checksum",
    "backend_endpoint",
    "internal_token",
    "make_random",
]

BACKEND_PATH = "ocs/v2.php/apps/spreed/api/v3/signaling/backend"
"""Where Talk answers the signaling server, below Nextcloud's base URL."""


def make_random() -> str:
    """Return a fresh random of 64 hex characters (the server wants at least 32)."""
    return secrets.token_hex(32)


def internal_token(secret: str, random: str) -> str:
    """Return the hex HMAC-SHA256 of `random` that proves the internal secret."""
    return hmac.new(secret.encode(), random.encode(), hashlib.sha256).hexdigest()


def backend_checksum(secret: str, random: str, body: bytes) -> str:
    """Return the value of `Spreed-Signaling-Checksum` for one HTTP request.

    Args:
        secret: The secret shared by Nextcloud and the signaling server.
        random: The value of `Spreed-Signaling-Random`, at least 32 characters.
        body: The exact bytes of the request body.
    """
    return hmac.new(secret.encode(), random.encode() + body, hashlib.sha256).hexdigest()


class Auth(Protocol):
    """How a session proves who it is; see the three classes of this module."""

    @property
    def version(self) -> str:
        """Protocol version of the hello."""

    @property
    def features(self) -> tuple[str, ...]:
        """Client features to announce."""

    @property
    def internal(self) -> bool:
        """Whether this is an internal client."""

    def hello_auth(self) -> HelloAuth:
        """Return the `auth` object of a new hello."""


@frozen(kw_only=True)
class InternalAuth:
    """An internal client: a service that shares the server's internal secret."""

    secret: str = field(repr=False)
    """`internalsecret` of the server's [clients] section."""
    backend_url: str
    """Nextcloud's base URL (scheme, host, webroot), without an OCS path."""

    # Every server version accepts 1.0; 0.4 refuses 2.0 for internal clients.
    version = "1.0"
    # Without this feature the server reports the bot as "in call with audio", and
    # every browser requests an offer from it every 10 seconds.
    features = ("internal-incall",)
    internal = True

    def __attrs_post_init__(self) -> None:
        if not self.secret:
            raise UsageError("the internal secret is empty")
        if not self.backend_url.startswith(("http://", "https://")):
            raise UsageError("backend_url must be the http(s) URL of Nextcloud")
        if "/ocs/" in self.backend_url:
            raise UsageError(
                "backend_url must be Nextcloud's base URL without an OCS path"
            )

    def hello_auth(self) -> HelloAuth:
        """Return the `auth` object with a fresh random."""
        random = make_random()
        token = internal_token(self.secret, random)
        params = {"random": random, "token": token, "backend": self.backend_url}
        return HelloAuth(type="internal", params=params)


@frozen(kw_only=True)
class TicketAuth:
    """A user or guest with the ticket of Talk's signaling settings (hello v1)."""

    url: str
    """The full backend URL, see `backend_endpoint`."""
    user_id: str
    """Nextcloud user id; empty for guests."""
    ticket: str = field(repr=False)

    version = "1.0"
    features: tuple[str, ...] = ()
    internal = False

    def hello_auth(self) -> HelloAuth:
        """Return the `auth` object."""
        params = {"userid": self.user_id, "ticket": self.ticket}
        return HelloAuth(url=self.url, params=params)


@frozen(kw_only=True)
class TokenAuth:
    """A user or guest with the signed token of Talk's settings (hello v2)."""

    url: str
    """The full backend URL, see `backend_endpoint`."""
    token: str = field(repr=False)

    version = "2.0"
    features: tuple[str, ...] = ()
    internal = False

    def hello_auth(self) -> HelloAuth:
        """Return the `auth` object."""
        return HelloAuth(url=self.url, params={"token": self.token})


def backend_endpoint(base_url: str) -> str:
    """Return the full backend URL below Nextcloud's base URL."""
    return f"{base_url.rstrip('/')}/{BACKEND_PATH}"
