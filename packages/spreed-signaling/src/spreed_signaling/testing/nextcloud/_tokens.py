# SPDX-License-Identifier: MIT
"""Signed tokens for hello 2.0, where the package `cryptography` is installed.

It comes with the extra `[media]`; the stand-in works without it, and then offers
no token key to the signaling server.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from ...errors import UsageError

__all__ = ["TokenSigner"]

_VALID_S = 60
"""Life of a token in seconds, as measured with Talk 21.1."""


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenSigner:
    """An Ed25519 key pair that signs hello tokens."""

    def __init__(self) -> None:
        self._key: Any = None
        self.public_key: str | None = None
        """PEM for `hello-v2-token-key`; None where `cryptography` is missing."""
        try:
            from cryptography.hazmat.primitives import serialization
            from cryptography.hazmat.primitives.asymmetric import ed25519
        except ImportError:
            return
        self._key = ed25519.Ed25519PrivateKey.generate()
        self.public_key = (
            self._key.public_key()
            .public_bytes(
                serialization.Encoding.PEM,
                serialization.PublicFormat.SubjectPublicKeyInfo,
            )
            .decode()
        )

    def sign(self, issuer: str, user_id: str, display_name: str) -> str:
        """Return a token that is valid for 60 s.

        Args:
            issuer: Nextcloud's base URL.
            user_id: Empty for guests.
            display_name: Put into `userdata`.

        Raises:
            UsageError: If `cryptography` is not installed.
        """
        if self._key is None:
            raise UsageError("hello tokens need the package cryptography")
        issued = int(datetime.now(UTC).timestamp())
        claims: dict[str, Any] = {
            "iss": issuer,
            "iat": issued,
            "exp": issued + _VALID_S,
            "userdata": {"displayname": display_name},
        }
        if user_id:
            claims["sub"] = user_id
        header = {"typ": "JWT", "alg": "EdDSA"}
        parts = [_segment(json.dumps(part).encode()) for part in (header, claims)]
        signed = ".".join(parts)
        return f"{signed}.{_segment(self._key.sign(signed.encode()))}"
