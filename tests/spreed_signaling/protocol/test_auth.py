"""Signatures and hello parameters, checked against known vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spreed_signaling.errors import UsageError
from spreed_signaling.protocol.auth import (
    InternalAuth,
    TicketAuth,
    TokenAuth,
    backend_checksum,
    backend_endpoint,
    internal_token,
    make_random,
)

TRACE = Path(__file__).parents[2] / "fixtures" / "signaling-trace.jsonl"


def recorded() -> list[dict[str, Any]]:
    return [json.loads(line) for line in TRACE.read_text().splitlines()]


class TestBackendChecksum:
    """Specification: "Backend requests"."""

    def test_vector(self) -> None:
        checksum = backend_checksum(
            "MySecretValue",
            "afb6b872ab03e3376b31bf0af601067222ff7990335ca02d327071b73c0119c6",
            b'{"type":"auth","auth":{"version":"1.0","params":{"hello":"world"}}}',
        )
        assert (
            checksum
            == "3c4a69ff328299803ac2879614b707c807b4758cf19450755c60656cac46e3bc"
        )

    def test_recorded_requests(self) -> None:
        checked = 0
        for entry in recorded():
            headers = {
                key.lower(): value for key, value in entry.get("headers", {}).items()
            }
            if "spreed-signaling-checksum" not in headers or entry["dir"] == "GET":
                continue
            body = json.dumps(entry["msg"], separators=(",", ":"), ensure_ascii=False)
            expected = backend_checksum(
                "fake-backend-secret",
                headers["spreed-signaling-random"],
                body.encode(),
            )
            assert headers["spreed-signaling-checksum"] == expected
            checked += 1
        assert checked > 10


class TestInternalClients:
    """Specification: "Internal clients"."""

    def test_vector(self) -> None:
        assert (
            internal_token("the-internal-secret", "0123456789abcdef" * 4)
            == "47b86dde7d0e10191d27e3b665191c0ee65b2ffd929c699b5fa5ef8c3a5b3f55"
        )

    def test_recorded_hellos(self) -> None:
        checked = 0
        for entry in recorded():
            message = entry.get("msg") or {}
            auth = message.get("hello", {}).get("auth", {})
            if entry["dir"] == "send" and auth.get("type") == "internal":
                params = auth["params"]
                token = internal_token("fake-internal-secret", params["random"])
                assert params["token"] == token
                checked += 1
        assert checked > 5

    def test_every_hello_has_its_own_random(self) -> None:
        auth = InternalAuth(secret="s", backend_url="https://nc.example/webroot")
        first, second = auth.hello_auth().params, auth.hello_auth().params
        assert first is not None
        assert second is not None
        assert first["random"] != second["random"]
        assert len(first["random"]) >= 32
        assert first["backend"] == "https://nc.example/webroot"
        assert auth.hello_auth().type == "internal"

    @pytest.mark.parametrize(
        ("secret", "url", "words"),
        [
            ("", "https://nc.example", "secret is empty"),
            ("s", "https://nc.example/ocs/v2.php/apps", "without an OCS path"),
            ("s", "nc.example", "URL of Nextcloud"),
            ("s", "", "URL of Nextcloud"),
        ],
    )
    def test_wrong_settings_are_noticed_at_once(
        self, secret: str, url: str, words: str
    ) -> None:
        with pytest.raises(UsageError, match=words):
            InternalAuth(secret=secret, backend_url=url)


class TestUsersAndGuests:
    """Specification: "Establish connection"."""

    def test_ticket(self) -> None:
        url = backend_endpoint("https://nc.example/")
        auth = TicketAuth(url=url, user_id="alice", ticket="t")
        assert auth.hello_auth().to_json() == {
            "url": "https://nc.example/ocs/v2.php/apps/spreed/api/v3/signaling/backend",
            "params": {"userid": "alice", "ticket": "t"},
        }
        assert (auth.version, auth.internal) == ("1.0", False)

    def test_token(self) -> None:
        auth = TokenAuth(url="https://nc.example/x", token="jwt")
        assert auth.hello_auth().to_json() == {
            "url": "https://nc.example/x",
            "params": {"token": "jwt"},
        }
        assert (auth.version, auth.internal) == ("2.0", False)


def test_secrets_stay_out_of_repr() -> None:
    for auth in (
        InternalAuth(secret="PRIVATE", backend_url="https://nc.example"),
        TicketAuth(url="u", user_id="a", ticket="PRIVATE"),
        TokenAuth(url="u", token="PRIVATE"),
    ):
        assert "PRIVATE" not in repr(auth)
        assert "PRIVATE" not in repr(auth.hello_auth())


def test_randoms_differ() -> None:
    assert len({make_random() for _ in range(50)}) == 50
