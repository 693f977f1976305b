"""Talk's signaling settings, complete and otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from spreed_signaling.protocol.auth import TicketAuth, TokenAuth
from spreed_signaling.protocol.settings import SignalingSettings, parse_settings
from spreed_signaling.types import IceServer

BACKEND = "https://nc.example/ocs/v2.php/apps/spreed/api/v3/signaling/backend"


def talk_settings() -> dict[str, Any]:
    return {
        "signalingMode": "external",
        "userId": "alice",
        "hideWarning": False,
        "server": "https://hpb.example/standalone-signaling/",
        "ticket": "PRIVATE-ticket",
        "helloAuthParams": {
            "1.0": {"userid": "alice", "ticket": "PRIVATE-ticket"},
            "2.0": {"token": "PRIVATE-token"},
        },
        "federation": None,
        "stunservers": [{"urls": ["stun:stun.example:443"]}],
        "turnservers": [
            {
                "urls": ["turn:turn.example:3478?transport=udp", "turn:turn.example"],
                "username": "1700000000:x",
                "credential": "PRIVATE-credential",
            }
        ],
        "sipDialinInfo": "",
    }


class TestTalk:
    def test_everything(self) -> None:
        settings = parse_settings(talk_settings())
        assert settings.server_url == "https://hpb.example/standalone-signaling/"
        assert settings.signaling_mode == "external"
        assert settings.user_id == "alice"
        assert settings.stun_servers == (IceServer(urls=("stun:stun.example:443",)),)
        [turn] = settings.turn_servers
        assert turn.urls[1] == "turn:turn.example"
        assert turn.username == "1700000000:x"
        assert turn.credential == "PRIVATE-credential"
        assert settings.ice_servers == (*settings.stun_servers, turn)

    def test_secrets_stay_out_of_repr(self) -> None:
        assert "PRIVATE" not in repr(parse_settings(talk_settings()))

    def test_without_a_signaling_server(self) -> None:
        settings = parse_settings({"signalingMode": "internal", "server": ""})
        assert settings.server_url is None
        assert settings.signaling_mode == "internal"


class TestAuth:
    def test_token_first(self) -> None:
        auth = parse_settings(talk_settings()).auth("https://nc.example/")
        assert auth == TokenAuth(url=BACKEND, token="PRIVATE-token")

    @pytest.mark.parametrize("params", [{}, {"2.0": None}, {"2.0": {"token": ""}}, []])
    def test_ticket_otherwise(self, params: Any) -> None:
        data = {**talk_settings(), "helloAuthParams": params}
        auth = parse_settings(data).auth("https://nc.example")
        assert auth == TicketAuth(url=BACKEND, user_id="alice", ticket="PRIVATE-ticket")

    def test_user_of_the_parameters(self) -> None:
        data = {**talk_settings(), "userId": None}
        assert parse_settings(data).user_id == "alice"

    def test_services_have_neither(self) -> None:
        assert parse_settings({}).auth("https://nc.example") is None


class TestOddAnswers:
    @pytest.mark.parametrize("data", [None, [], "text", 3, {}, {"server": 3}])
    def test_nothing_usable(self, data: Any) -> None:
        assert parse_settings(data) == SignalingSettings()

    @pytest.mark.parametrize(
        "servers",
        [
            None,
            {},
            [None, "stun:x", {}, {"urls": []}, {"urls": [3, ""]}, {"urls": None}],
        ],
    )
    def test_ice_servers_without_address(self, servers: Any) -> None:
        settings = parse_settings({"stunservers": servers, "turnservers": servers})
        assert settings.ice_servers == ()

    def test_a_single_address_as_text(self) -> None:
        settings = parse_settings({"stunservers": [{"urls": "stun:x"}]})
        assert settings.stun_servers == (IceServer(urls=("stun:x",)),)
