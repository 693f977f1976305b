# SPDX-License-Identifier: AGPL-3.0-or-later
"""The recogniser that the demo's ExApp is told to use."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from kyutai_stream import get_backend

from ..config import Settings

__all__ = ["Recogniser", "choose_recogniser"]


@frozen(kw_only=True)
class Recogniser:
    """Which one, and what is known of it before it is asked."""

    name: str
    """Name of the backend."""
    note: str
    """What it says about itself."""
    transcribes: bool
    """Whether its captions are words."""
    remote: bool
    """Whether it is a server somewhere, which may have to start first."""
    environment: Mapping[str, str] = field(repr=False)
    """For the ExApp; may hold keys."""


def choose_recogniser(
    name: str, stt_url: str | None, environ: Mapping[str, str]
) -> Recogniser:
    """Settle the recogniser as the ExApp will.

    Args:
        name: Of the backend.
        stt_url: Where it is; None leaves that to the environment.
        environ: This process'; `LT_STT_URL`, `LT_STT_API_KEY` and `MODAL_*` count.

    Raises:
        KyutaiStreamError: If there is no such backend or its settings are wrong.
    """
    environment = dict(environ)
    if stt_url is not None:
        environment["LT_STT_URL"] = stt_url
    settings = Settings.from_environment(
        {**environment, "APP_SECRET": "none yet", "LT_STT_BACKEND": name}
    )
    config = settings.stt_config()
    backend = get_backend(name, **config)
    return Recogniser(
        name=name,
        note=backend.description,
        transcribes=backend.capabilities.transcribes,
        remote="url" in config or "workspace" in config,
        environment=environment,
    )
