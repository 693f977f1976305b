# SPDX-License-Identifier: AGPL-3.0-or-later
"""The environment becomes one frozen value."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from live_transcription.config import Settings, SettingsError
from spreed_signaling.types import IceServer

FULL = {
    "AA_VERSION": "5.0.2",
    "APP_SECRET": "s" * 128,
    "APP_ID": "live_transcription",
    "APP_DISPLAY_NAME": "Captions",
    "APP_VERSION": "3.1.0",
    "APP_HOST": "0.0.0.0",
    "APP_PORT": "23456",
    "APP_PERSISTENT_STORAGE": "/nc_app_live_transcription_data",
    "NEXTCLOUD_URL": "https://cloud.example.com/nc/index.php",
    "COMPUTE_DEVICE": "cuda",
    "LT_HPB_URL": "wss://hpb.example.com/standalone-signaling/spreed",
    "LT_INTERNAL_SECRET": "the-internal",
    "LT_BACKEND_URL": "https://cloud.example.com/",
    "SKIP_CERT_VERIFY": "true",
    "LT_STT_BACKEND": "modal",
    "LT_STT_URL": "wss://stt.example.com",
    "LT_STT_API_KEY": "the-stt-key",
    "MODAL_WORKSPACE": "work",
    "MODAL_KEY": "the-modal-key",
    "MODAL_SECRET": "the-modal-secret",
    "LT_DEFAULT_LANGUAGE": "FR",
    "LT_PARTIALS": "off",
    "LT_MAX_SPEAKERS": "7",
    "LT_MAX_ROOMS": "3",
    "LT_STUN_URLS": "stun:stun.example.com:3478",
    "LT_TURN_URLS": "turn:user:pass:word@turn.example.com:3478?transport=udp,",
}


def read(**env: str) -> Settings:
    return Settings.from_environment({"APP_SECRET": "secret", **env})


def test_every_variable() -> None:
    settings = Settings.from_environment(FULL)
    assert settings.problems == ()
    assert settings == Settings(
        app_secret="s" * 128,
        app_id="live_transcription",
        app_version="3.1.0",
        app_display_name="Captions",
        aa_version="5.0.2",
        app_host="0.0.0.0",
        app_port=23456,
        nextcloud_url="https://cloud.example.com/nc",
        persistent_storage="/nc_app_live_transcription_data",
        compute_device="CUDA",
        hpb_url="https://hpb.example.com/standalone-signaling",
        internal_secret="the-internal",
        backend_url="https://cloud.example.com",
        skip_cert_verify=True,
        stt_backend="modal",
        stt_url="wss://stt.example.com",
        stt_api_key="the-stt-key",
        modal_workspace="work",
        modal_key="the-modal-key",
        modal_secret="the-modal-secret",
        default_language="fr",
        partials=False,
        max_speakers=7,
        max_rooms=3,
        ice_servers=(
            IceServer(urls=("stun:stun.example.com:3478",)),
            IceServer(
                urls=("turn:turn.example.com:3478?transport=udp",),
                username="user",
                credential="pass:word",
            ),
        ),
    )


def test_secrets_are_in_no_repr() -> None:
    text = repr(Settings.from_environment(FULL))
    secrets = ("ssss", "the-internal", "the-stt-key", "the-modal", "pass:word")
    assert not [secret for secret in secrets if secret in text]


def test_it_is_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(read(), "app_id", "other")  # noqa: B010  # mypy knows it is frozen


@pytest.mark.parametrize("env", [{}, {"APP_SECRET": ""}, {"APP_SECRET": "  "}])
def test_h7_an_empty_app_secret_refuses_to_start(env: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="APP_SECRET"):
        Settings.from_environment(env)


@pytest.mark.parametrize(
    ("given", "read_as"),
    [
        ("https://hpb.example.com", "https://hpb.example.com"),
        ("https://hpb.example.com/", "https://hpb.example.com"),
        ("https://hpb.example.com/spreed", "https://hpb.example.com"),
        ("https://hpb.example.com/a/spreed/", "https://hpb.example.com/a"),
        ("ws://hpb:8081/spreed", "http://hpb:8081"),
        ("wss://hpb.example.com/a", "https://hpb.example.com/a"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_forms_of_the_hpb_url(given: str, read_as: str) -> None:
    assert read(LT_HPB_URL=given).hpb_url == read_as


def test_a_full_backend_url_is_cut_to_the_base() -> None:
    given = "https://c.example.com/nc/ocs/v2.php/apps/spreed/api/v3/signaling/backend"
    assert read(LT_BACKEND_URL=given).backend_url == "https://c.example.com/nc"
    assert read(NEXTCLOUD_URL="http://nc").backend_url == "http://nc"


@pytest.mark.parametrize(
    ("name", "value", "field", "used"),
    [
        ("LT_HPB_URL", "hpb.example.com", "hpb_url", None),
        ("LT_HPB_URL", "https:///path", "hpb_url", None),
        ("LT_HPB_URL", "http://[half", "hpb_url", None),
        ("LT_MAX_ROOMS", "many", "max_rooms", 50),
        ("LT_MAX_ROOMS", "0", "max_rooms", 50),
        ("LT_MAX_SPEAKERS", "-1", "max_speakers", 100),
        ("LT_DEFAULT_LANGUAGE", "de", "default_language", "en"),
        ("LT_PARTIALS", "perhaps", "partials", True),
        ("SKIP_CERT_VERIFY", "maybe", "skip_cert_verify", False),
        ("LT_STUN_URLS", "stun.example.com", "ice_servers", ()),
        ("LT_TURN_URLS", "turn.example.com", "ice_servers", ()),
    ],
)
def test_what_cannot_be_used_is_told(
    name: str, value: str, field: str, used: Any
) -> None:
    settings = read(**{name: value})
    (problem,) = settings.problems
    assert name in problem
    assert value not in problem or len(value) < 3
    assert getattr(settings, field) == used


def test_harp_listens_on_a_socket() -> None:
    assert read().unix_socket is None
    assert read(HP_SHARED_KEY="key").unix_socket == "/tmp/exapp.sock"
    settings = read(HP_SHARED_KEY="key", HP_EXAPP_SOCK="/run/a.sock")
    assert settings.unix_socket == "/run/a.sock"


def test_no_ice_servers_at_all() -> None:
    assert read().ice_servers is None
    assert read(LT_STUN_URLS="none").ice_servers == ()
    assert read(LT_TURN_URLS="turns:t.example.com").ice_servers == (
        IceServer(urls=("turns:t.example.com",)),
    )


class TestMissing:
    ENOUGH = {
        "LT_HPB_URL": "http://hpb",
        "LT_INTERNAL_SECRET": "internal",
        "NEXTCLOUD_URL": "http://nc",
    }

    def test_nothing(self) -> None:
        assert read(**self.ENOUGH).missing() is None

    @pytest.mark.parametrize(
        ("without", "named"),
        [
            ("LT_HPB_URL", "LT_HPB_URL"),
            ("LT_INTERNAL_SECRET", "LT_INTERNAL_SECRET"),
            ("NEXTCLOUD_URL", "LT_BACKEND_URL"),
        ],
    )
    def test_of_the_signaling_server(self, without: str, named: str) -> None:
        env = {name: value for name, value in self.ENOUGH.items() if name != without}
        assert named in (read(**env).missing() or "")

    @pytest.mark.parametrize(
        ("env", "named"),
        [
            ({"LT_STT_BACKEND": "modal"}, "MODAL_WORKSPACE"),
            ({"LT_STT_BACKEND": "modal", "MODAL_WORKSPACE": "w"}, "MODAL_KEY"),
            ({"LT_STT_BACKEND": "moshi-server"}, "LT_STT_URL"),
        ],
    )
    def test_of_the_recogniser(self, env: dict[str, str], named: str) -> None:
        assert named in (read(**self.ENOUGH, **env).missing() or "")


def test_settings_of_the_recogniser() -> None:
    assert Settings.from_environment(FULL).stt_config() == {
        "url": "wss://stt.example.com",
        "workspace": "work",
        "key": "the-modal-key",
        "secret": "the-modal-secret",
    }
    settings = read(
        LT_STT_BACKEND="moshi-server", LT_STT_URL="ws://s", LT_STT_API_KEY="key"
    )
    assert settings.stt_config() == {"url": "ws://s", "api_key": "key"}
    settings = read(LT_STT_BACKEND="modal", LT_STT_URL="wss://s", LT_STT_API_KEY="key")
    assert settings.stt_config() == {"url": "wss://s", "api_key": "key"}
    assert read(LT_STT_BACKEND="activity").stt_config() == {}
