"""Tokens of hello 2.0, for every algorithm and every reason to refuse."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from spreed_signaling.testing.hpb.tokens import TokenRefused, verify

NOW = 1_800_000_000.0
CLAIMS = {"iat": NOW, "exp": NOW + 60, "sub": "alice", "userdata": {"a": 1}}


def pem(key: Any) -> str:
    encoded: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded.decode()


def make(algorithm: str, claims: Any, sign: Callable[[bytes], bytes]) -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = part(json.dumps({"alg": algorithm}).encode())
    text = f"{head}.{part(json.dumps(claims).encode())}"
    return f"{text}.{part(sign(text.encode()))}"


ED = ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256", "ES256"])
def test_algorithms(algorithm: str) -> None:
    key: Any = ED
    sign: Callable[[bytes], bytes] = ED.sign
    if algorithm == "RS256":
        rsa_key = key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

        def sign(data: bytes) -> bytes:
            return rsa_key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    elif algorithm == "ES256":
        ec_key = key = ec.generate_private_key(ec.SECP256R1())

        def sign(data: bytes) -> bytes:
            numbers = decode_dss_signature(ec_key.sign(data, ec.ECDSA(hashes.SHA256())))
            return b"".join(number.to_bytes(32) for number in numbers)

    claims = verify(make(algorithm, CLAIMS, sign), pem(key), NOW)
    assert (claims.user_id, claims.user) == ("alice", {"a": 1})
    with pytest.raises(TokenRefused, match="invalid_token"):
        verify(make(algorithm, CLAIMS, lambda data: sign(data + b"x")), pem(key), NOW)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({**CLAIMS, "iat": NOW + 61}, "token_not_valid_yet"),
        ({**CLAIMS, "exp": NOW - 61}, "token_expired"),
        ({"iat": NOW}, "invalid_token"),
        ([], "invalid_token"),
    ],
)
def test_refusals(claims: Any, code: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        verify(make("EdDSA", claims, ED.sign), pem(ED), NOW)
    assert caught.value.code == code


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c", "...."])
def test_garbage(token: str) -> None:
    with pytest.raises(TokenRefused):
        verify(token, pem(ED), NOW)


def test_algorithm_must_fit_the_key() -> None:
    with pytest.raises(TokenRefused):
        verify(make("none", CLAIMS, lambda data: b""), pem(ED), NOW)
    with pytest.raises(TokenRefused):
        verify(make("RS256", CLAIMS, ED.sign), pem(ED), NOW)


def test_leeway() -> None:
    token = make("EdDSA", {**CLAIMS, "iat": NOW + 59, "exp": NOW - 59}, ED.sign)
    assert verify(token, pem(ED), NOW).user_id == "alice"
