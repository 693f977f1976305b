# SPDX-License-Identifier: MIT
"""Say once what was not understood, instead of at every message."""

from __future__ import annotations

import logging

__all__ = ["Novelties"]

MOST = 16
LONGEST = 40


class Novelties:
    """Remembers which unknown things were mentioned; one for each connection.

    At most 16 are remembered; a server that invents more is mentioned no further.

    Args:
        logger: Where to say it, at level INFO.
        source: Who sent them, such as `moshi-server`.
    """

    def __init__(self, logger: logging.Logger, source: str) -> None:
        self._logger = logger
        self._source = source
        self._seen: set[str] = set()

    def say(self, kind: str) -> None:
        """Mention an unknown kind of message, the first time.

        Args:
            kind: Its name as sent; shortened, and escaped for the log.
        """
        kind = kind[:LONGEST]
        if kind in self._seen or len(self._seen) >= MOST:
            return
        self._seen.add(kind)
        self._logger.info("%s sent %r, which is ignored", self._source, kind)
