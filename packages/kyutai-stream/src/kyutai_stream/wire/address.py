# SPDX-License-Identifier: MIT
"""Check the addresses people write into settings; nothing is resolved here."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from ..errors import ConfigError

__all__ = ["address_for_people", "websocket_url", "websocket_urls"]

SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}

SECRET_QUERY = ("auth_id", "key", "secret", "token", "api_key")
"""Parameters that would put a secret into every proxy's log."""


def websocket_url(url: str, *, default_path: str) -> str:
    """Bring one address to the form `ws[s]://host[:port]/path`.

    Args:
        url: `ws`, `wss`, `http` or `https`.
        default_path: Used where the address has no path, with a leading slash.

    Raises:
        ConfigError: If it is no such address, or holds credentials.
    """
    parts = _split(url)
    shown = address_for_people(url)
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"{shown!r} is no address: write ws://… or wss://…")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{shown!r}: credentials do not belong into an address")
    if any(name.lower() in SECRET_QUERY for name, _ in parse_qsl(parts.query)):
        raise ConfigError(f"{shown!r}: keys do not belong into an address")
    if parts.fragment:
        raise ConfigError(f"{shown!r}: an address here has no part after '#'")
    path = parts.path if parts.path not in ("", "/") else default_path
    scheme = SCHEMES[parts.scheme]
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


def websocket_urls(urls: str | Sequence[str], *, default_path: str) -> tuple[str, ...]:
    """Bring several addresses to that form, in order and each once.

    Args:
        urls: A sequence, or a string with commas between them.
        default_path: As for `websocket_url`.

    Raises:
        ConfigError: If there is none, or one is wrong.
    """
    listed = urls.split(",") if isinstance(urls, str) else urls
    found = [websocket_url(url, default_path=default_path) for url in listed if url]
    if not found:
        raise ConfigError("no address was given")
    return tuple(dict.fromkeys(found))


def address_for_people(url: str) -> str:
    """Scheme, host, port and path: without anything that might be a secret."""
    parts = urlsplit(url.strip())
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip())
        parts.port  # noqa: B018  (reading it checks it)
    except ValueError as exc:
        raise ConfigError("an address has a wrong host or port") from exc
    if not parts.hostname or any(map(str.isspace, parts.netloc)):
        raise ConfigError(
            f"{address_for_people(url)!r} is no address: write ws://host:port"
        )
    return parts
