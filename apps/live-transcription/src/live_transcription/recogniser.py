# SPDX-License-Identifier: AGPL-3.0-or-later
"""The speech-to-text backend that the administrator chose, loaded once."""

from __future__ import annotations

import logging
from typing import Any

from kyutai_stream import Backend, KyutaiStreamError, get_backend
from kyutai_stream.registry import DEFAULT_BACKEND

from .config import Settings

__all__ = ["Recogniser"]

_log = logging.getLogger(__name__)

NOT_CHOSEN = "LT_STT_BACKEND is not set: captions show who speaks, not what"


class Recogniser:
    """One backend for all calls.

    Args:
        settings: Which, and how it is reached.
        backend: Another one, for tests.
    """

    def __init__(self, settings: Settings, backend: Backend | None = None) -> None:
        self._settings = settings
        self._backend = backend

    def load(self) -> Backend:
        """Return the backend; the same one each time.

        Raises:
            KyutaiStreamError: If it cannot be used, e.g. for a missing setting.
        """
        if self._backend is None:
            name = self._settings.stt_backend
            config: dict[str, Any] = {}
            if name is None:
                _log.warning("%s", NOT_CHOSEN)
            else:
                config = self._settings.stt_config()
            self._backend = get_backend(name or DEFAULT_BACKEND, **config)
        return self._backend

    def problem(self) -> str | None:
        """Return why it cannot be used, in plain words; None if it can."""
        try:
            self.load()
        except KyutaiStreamError as exc:
            return f"LT_STT_BACKEND: {exc}"
        return None

    def status(self) -> dict[str, Any]:
        """Return what it is, in plain words."""
        chosen = self._settings.stt_backend
        name, description, error = chosen or DEFAULT_BACKEND, "", ""
        try:
            backend = self.load()
            name, description = backend.name, backend.description
        except KyutaiStreamError as exc:
            error = str(exc)
        return {
            "name": name,
            "error": error,
            "description": description,
            "hint": "" if chosen else NOT_CHOSEN,
        }
