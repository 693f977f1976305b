# SPDX-License-Identifier: MIT
"""Several addresses for one service, and what every backend checks before it dials."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ...errors import CapacityError, ConfigError, ConnectFailed, KyutaiStreamError

__all__ = ["Endpoints", "check_language"]

T = TypeVar("T")


class Endpoints:
    """Tries addresses in order, the one that worked last first.

    Args:
        urls: At least one.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = tuple(urls)
        """In the order of the settings."""
        self._last_good = self.urls[0]

    async def first(self, open_one: Callable[[str], Awaitable[T]]) -> T:
        """Open the first that is neither full nor out of reach.

        Args:
            open_one: Opens one address.

        Raises:
            CapacityError: If none could be opened and one was full.
            ConnectFailed: If none could be reached.
        """
        failures: list[KyutaiStreamError] = []
        for url in sorted(self.urls, key=lambda url: url != self._last_good):
            try:
                opened = await open_one(url)
            except (CapacityError, ConnectFailed) as exc:
                failures.append(exc)
                continue
            self._last_good = url
            return opened
        # A full server will have a place sooner than a missing one comes back.
        full = [exc for exc in failures if isinstance(exc, CapacityError)]
        raise (full or failures)[0]


def check_language(backend: str, language: str | None, known: Sequence[str]) -> None:
    """Refuse a language before anything is opened.

    Raises:
        ConfigError: If the backend does not understand it.
    """
    if language is not None and known and language not in known:
        raise ConfigError(
            f"{backend} does not understand {language!r}, only {', '.join(known)}"
        )
