# SPDX-License-Identifier: AGPL-3.0-or-later
"""The environment, read once into one frozen value.

A missing or wrong setting is no reason not to start: AppAPI would report a failed
installation without saying why. It is kept in `problems`, shown in the status and
answered to whoever switches captions on. The one exception is an empty
`APP_SECRET`, with which nobody could be told from anybody.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from attrs import field, frozen

from spreed_signaling.types import IceServer

from .languages import FALLBACK_LANGUAGE, supported

__all__ = ["Settings", "SettingsError", "read_environment"]

_WEB = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_YES = {"1", "true", "yes", "on"}
_NO = {"0", "false", "no", "off"}
_OCS = "/ocs/"
_MODAL_NAMES = ("MODAL_WORKSPACE", "MODAL_KEY", "MODAL_SECRET")


class SettingsError(Exception):
    """The application cannot start with these settings."""


@frozen(kw_only=True)
class Settings:
    """Everything the environment says; secrets stay out of `repr`."""

    app_secret: str = field(repr=False)
    """Shared with AppAPI; never empty."""
    app_id: str = "live_transcription"
    """Talk asks for exactly this id."""
    app_version: str = "3.0.0"
    app_display_name: str = "Live transcription"
    aa_version: str = ""
    """AppAPI's version, as injected."""
    app_host: str = "127.0.0.1"
    app_port: int = 23000
    unix_socket: str | None = None
    """Listen here instead of TCP: set on HaRP daemons (`HP_SHARED_KEY`)."""
    nextcloud_url: str | None = None
    """Base URL as this app reaches Nextcloud; None if not given."""
    persistent_storage: str | None = None
    compute_device: str = "CPU"
    hpb_url: str | None = None
    """Signaling server, `http(s)://`, without `/spreed`."""
    internal_secret: str = field(default="", repr=False)
    """The signaling server's `internalsecret`."""
    backend_url: str | None = None
    """Nextcloud's base URL as the signaling server's configuration names it."""
    skip_cert_verify: bool = False
    stt_backend: str | None = None
    """Name of the speech-to-text backend; None for the library's default."""
    stt_url: str | None = None
    stt_api_key: str = field(default="", repr=False)
    modal_workspace: str = ""
    modal_key: str = field(default="", repr=False)
    modal_secret: str = field(default="", repr=False)
    default_language: str = FALLBACK_LANGUAGE
    partials: bool = True
    """Whether unfinished sentences are shown."""
    max_speakers: int = 100
    """Speakers transcribed at a time, over all rooms."""
    max_rooms: int = 50
    """Rooms with captions at a time."""
    ice_servers: tuple[IceServer, ...] | None = None
    """STUN and TURN servers; None asks Nextcloud for Talk's."""
    leave_after_s: float = 60.0
    """Seconds without a reader after which a call is left; not from the
    environment."""
    problems: tuple[str, ...] = ()
    """Settings that could not be used, in plain words, without their values."""

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings.

        Args:
            env: Environment variables; empty ones count as not set.

        Raises:
            SettingsError: If `APP_SECRET` is empty.
        """
        read = _Reader(env)
        secret = read.text("APP_SECRET")
        if not secret:
            raise SettingsError(
                "APP_SECRET is empty: AppAPI sets it, a manual installation must"
                " give it the value of the registration's `secret`"
            )
        nextcloud_url = read.web_url("NEXTCLOUD_URL")
        return cls(
            app_secret=secret,
            app_id=read.text("APP_ID", "live_transcription"),
            app_version=read.text("APP_VERSION", "3.0.0"),
            app_display_name=read.text("APP_DISPLAY_NAME", "Live transcription"),
            aa_version=read.text("AA_VERSION"),
            app_host=read.text("APP_HOST", "127.0.0.1"),
            app_port=read.number("APP_PORT", 23000),
            unix_socket=read.unix_socket(),
            nextcloud_url=nextcloud_url,
            persistent_storage=read.text("APP_PERSISTENT_STORAGE") or None,
            compute_device=read.text("COMPUTE_DEVICE", "CPU").upper(),
            hpb_url=read.web_url("LT_HPB_URL"),
            internal_secret=read.text("LT_INTERNAL_SECRET"),
            backend_url=read.web_url("LT_BACKEND_URL") or nextcloud_url,
            skip_cert_verify=read.switch("SKIP_CERT_VERIFY", default=False),
            stt_backend=read.text("LT_STT_BACKEND") or None,
            stt_url=read.text("LT_STT_URL") or None,
            stt_api_key=read.text("LT_STT_API_KEY"),
            modal_workspace=read.text("MODAL_WORKSPACE"),
            modal_key=read.text("MODAL_KEY"),
            modal_secret=read.text("MODAL_SECRET"),
            default_language=read.language("LT_DEFAULT_LANGUAGE"),
            partials=read.switch("LT_PARTIALS", default=True),
            max_speakers=read.number("LT_MAX_SPEAKERS", 100),
            max_rooms=read.number("LT_MAX_ROOMS", 50),
            ice_servers=read.ice_servers(),
            problems=tuple(read.problems),
        )

    def missing(self) -> str | None:
        """Return why captions cannot start, naming the variable; None if they can."""
        if self.hpb_url is None:
            return "LT_HPB_URL is not set: the URL of Talk's signaling server (HPB)"
        if not self.internal_secret:
            return (
                "LT_INTERNAL_SECRET is not set: `internalsecret` in the [clients]"
                " section of the signaling server's configuration"
            )
        if self.backend_url is None:
            return "LT_BACKEND_URL is not set and there is no NEXTCLOUD_URL either"
        if self.stt_backend == "modal" and self.stt_url is None:
            for name in _MODAL_NAMES:
                if not getattr(self, name.lower()):
                    return f"{name} is not set, and LT_STT_BACKEND is `modal`"
        if self.stt_backend == "moshi-server" and self.stt_url is None:
            return "LT_STT_URL is not set, and LT_STT_BACKEND is `moshi-server`"
        return None

    def stt_config(self) -> dict[str, Any]:
        """Return the settings of the speech-to-text backend, only those given."""
        given: dict[str, Any] = {"url": self.stt_url}
        if self.stt_backend == "modal":
            given |= {
                "workspace": self.modal_workspace,
                "key": self.modal_key,
                "secret": self.modal_secret,
            }
        if self.stt_backend != "modal" or not self.modal_key:
            # A self-hosted gateway may want one key instead of Modal's two.
            given["api_key"] = self.stt_api_key
        return {name: value for name, value in given.items() if value}


def read_environment() -> Settings:
    """Return the settings of this process.

    Raises:
        SettingsError: If `APP_SECRET` is empty.
    """
    return Settings.from_environment(os.environ)


class _Reader:
    """Reads single variables and collects what is wrong with them."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.problems: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        return self._env.get(name, "").strip() or default

    def number(self, name: str, default: int) -> int:
        raw = self.text(name)
        if not raw:
            return default
        if not raw.isascii() or not raw.isdigit() or int(raw) == 0:
            self.problems.append(
                f"{name} is no positive whole number; {default} is used"
            )
            return default
        return int(raw)

    def switch(self, name: str, *, default: bool) -> bool:
        raw = self.text(name).lower()
        if raw in _YES:
            return True
        if raw in _NO:
            return False
        if raw:
            used = "on" if default else "off"
            self.problems.append(f"{name} is neither `on` nor `off`; `{used}` is used")
        return default

    def language(self, name: str) -> str:
        raw = self.text(name).lower()
        if not raw or supported(raw):
            return raw or FALLBACK_LANGUAGE
        self.problems.append(
            f"{name} is no supported language; `{FALLBACK_LANGUAGE}` is used"
        )
        return FALLBACK_LANGUAGE

    def web_url(self, name: str) -> str | None:
        """A base URL: http(s) for ws(s), without `/spreed`, OCS path and slashes."""
        raw = self.text(name)
        if not raw:
            return None
        try:
            parts = urlsplit(raw)
            valid = parts.scheme in _WEB and bool(parts.hostname)
        except ValueError:
            valid = False
        if not valid:
            self.problems.append(
                f"{name} is no URL such as https://cloud.example.com and is ignored"
            )
            return None
        path = parts.path.partition(_OCS)[0].rstrip("/")
        path = path.removesuffix("/spreed").removesuffix("/index.php").rstrip("/")
        return urlunsplit((_WEB[parts.scheme], parts.netloc, path, "", ""))

    def unix_socket(self) -> str | None:
        if not self.text("HP_SHARED_KEY"):
            return None
        return self.text("HP_EXAPP_SOCK", "/tmp/exapp.sock")

    def ice_servers(self) -> tuple[IceServer, ...] | None:
        """Both lists; `none` stands for "no server at all"."""
        stun, turn = self.text("LT_STUN_URLS"), self.text("LT_TURN_URLS")
        if not stun and not turn:
            return None
        found = [self._stun(url) for url in _list(stun)]
        found += [self._turn(url) for url in _list(turn)]
        return tuple(server for server in found if server is not None)

    def _stun(self, url: str) -> IceServer | None:
        if url.startswith(("stun:", "stuns:")):
            return IceServer(urls=(url,))
        self.problems.append("LT_STUN_URLS holds something else than stun:HOST:PORT")
        return None

    def _turn(self, url: str) -> IceServer | None:
        """`turn:USER:PASSWORD@HOST:PORT?transport=udp`, credentials optional."""
        scheme, colon, rest = url.partition(":")
        credentials, at, address = rest.rpartition("@")
        user, _, password = credentials.partition(":")
        if scheme not in ("turn", "turns") or not colon or not address:
            self.problems.append(
                "LT_TURN_URLS holds something else than turn:USER:PASSWORD@HOST:PORT"
            )
            return None
        return IceServer(
            urls=(f"{scheme}:{address}",),
            username=user if at else None,
            credential=password if at else None,
        )


def _list(raw: str) -> list[str]:
    if raw.lower() == "none":
        return []
    return [part for part in raw.replace(",", " ").split() if part]
