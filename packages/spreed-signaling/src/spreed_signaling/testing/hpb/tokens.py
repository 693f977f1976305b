# SPDX-License-Identifier: MIT
"""Hello 2.0: tokens that Nextcloud signed, where `cryptography` is installed.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`, "Establish
    connection", protocol version 2.0; a leeway of 60 s.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from attrs import field, frozen

__all__ = ["Claims", "TokenRefused", "verify"]

_LEEWAY_S = 60.0


class TokenRefused(Exception):
    """The token is not accepted; `code` is for the client."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@frozen(kw_only=True)
class Claims:
    """Who the token speaks for."""

    user_id: str
    user: dict[str, Any] | None = field(repr=False)


def verify(token: str, public_key: str, wall: float) -> Claims:
    """Check a token and return its claims.

    Args:
        token: A JWT signed with RS256, RS384, RS512, ES256, ES384 or EdDSA.
        public_key: PEM, from Nextcloud's capabilities.
        wall: Unix time, seconds.

    Raises:
        TokenRefused: If it is not valid (now), or cannot be checked.
    """
    try:
        head, body, tail = token.split(".")
        header, claims = json.loads(_bytes(head)), json.loads(_bytes(body))
        check = _checker(str(header["alg"]), public_key)
        check(_bytes(tail), f"{head}.{body}".encode())
        issued, expires = float(claims["iat"]), float(claims["exp"])
    except Exception as exc:
        # Whatever is wrong with a token of somebody else, it is the token.
        raise TokenRefused("invalid_token") from exc
    if issued > wall + _LEEWAY_S:
        raise TokenRefused("token_not_valid_yet")
    if expires < wall - _LEEWAY_S:
        raise TokenRefused("token_expired")
    user = claims.get("userdata")
    return Claims(
        user_id=str(claims.get("sub") or ""),
        user=user if isinstance(user, dict) else None,
    )


def _bytes(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _checker(algorithm: str, public_key: str) -> Callable[[bytes, bytes], None]:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    key = serialization.load_pem_public_key(public_key.encode())
    if algorithm == "EdDSA" and isinstance(key, ed25519.Ed25519PublicKey):
        return key.verify
    digests: dict[str, Callable[[], hashes.HashAlgorithm]] = {
        "256": hashes.SHA256,
        "384": hashes.SHA384,
        "512": hashes.SHA512,
    }
    digest = digests[algorithm[2:]]()
    if algorithm.startswith("RS") and isinstance(key, rsa.RSAPublicKey):
        return lambda sig, data: key.verify(sig, data, padding.PKCS1v15(), digest)
    if algorithm.startswith("ES") and isinstance(key, ec.EllipticCurvePublicKey):

        def check(sig: bytes, data: bytes) -> None:
            half = len(sig) // 2
            numbers = (int.from_bytes(sig[:half]), int.from_bytes(sig[half:]))
            key.verify(encode_dss_signature(*numbers), data, ec.ECDSA(digest))

        return check
    raise ValueError("algorithm and key do not fit")
