# SPDX-License-Identifier: MIT
"""Find backends by name, through the entry-point group `kyutai_stream.backends`.

A backend is chosen explicitly, else by the environment variable
`KYUTAI_STREAM_BACKEND`, else it is `activity`, which recognises nothing and says
so. A recogniser is never picked by itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

from attrs import frozen

from .backend import Backend, Capabilities
from .errors import BackendUnavailable, ConfigError, KyutaiStreamError

__all__ = [
    "DEFAULT_BACKEND",
    "ENTRY_POINT_GROUP",
    "BackendInfo",
    "available_backends",
    "get_backend",
]

logger = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "kyutai_stream.backends"
"""Entry-point group; each entry names a callable that takes settings as keywords
and returns a `Backend`."""

DEFAULT_BACKEND = "activity"
"""Used where nothing was chosen."""

ENVIRONMENT_VARIABLE = "KYUTAI_STREAM_BACKEND"


@frozen(kw_only=True)
class BackendInfo:
    """One installed backend, working or not."""

    name: str
    """Name to give to `get_backend`."""
    distribution: str
    """Installed distribution that provides it."""
    description: str = ""
    """One line for people; empty if it could not be loaded without settings."""
    capabilities: Capabilities | None = None
    """What it can do; None if it could not be loaded without settings."""
    error: str | None = None
    """Why it cannot be used as it stands; None if it can."""


EntryPoints = Iterable[metadata.EntryPoint]


def available_backends(*, entry_points: EntryPoints | None = None) -> list[BackendInfo]:
    """List what is installed; broken plug-ins are reported, never raised.

    Args:
        entry_points: For tests: use these instead of the installed ones.

    Returns:
        One entry for each name and distribution, sorted by name.
    """
    found = _entry_points(entry_points)
    names = [entry.name for entry in found]
    infos = []
    for entry in sorted(found, key=lambda entry: (entry.name, _distribution(entry))):
        info = BackendInfo(name=entry.name, distribution=_distribution(entry))
        if names.count(entry.name) > 1:
            clash = _clash([other for other in found if other.name == entry.name])
            infos.append(_with_error(info, clash))
            continue
        try:
            backend = _build(entry, {})
        except KyutaiStreamError as exc:
            infos.append(_with_error(info, str(exc)))
            continue
        infos.append(
            BackendInfo(
                name=entry.name,
                distribution=info.distribution,
                description=backend.description,
                capabilities=backend.capabilities,
            )
        )
    return infos


def get_backend(
    name: str | None = None,
    *,
    entry_points: EntryPoints | None = None,
    **config: object,
) -> Backend:
    """Load a backend.

    Args:
        name: Its name; None reads `KYUTAI_STREAM_BACKEND` and falls back to
            `activity` with a hint in the log.
        entry_points: For tests: use these instead of the installed ones.
        **config: Settings of that backend.

    Raises:
        ConfigError: If the name is unknown, two distributions claim it, or a
            setting is wrong.
        BackendUnavailable: If the plug-in cannot be loaded (extra missing, or
            broken).
    """
    chosen = name or _from_environment() or _default()
    found = _entry_points(entry_points)
    matching = [entry for entry in found if entry.name == chosen]
    if not matching:
        known = ", ".join(sorted({entry.name for entry in found})) or "none"
        raise ConfigError(f"no backend is called {chosen!r}; installed: {known}")
    if len(matching) > 1:
        raise ConfigError(_clash(matching))
    return _build(matching[0], config)


def _from_environment() -> str | None:
    return os.environ.get(ENVIRONMENT_VARIABLE, "").strip() or None


def _default() -> str:
    logger.warning(
        "no speech recogniser configured, using %r: set %s or name a backend",
        DEFAULT_BACKEND,
        ENVIRONMENT_VARIABLE,
    )
    return DEFAULT_BACKEND


def _entry_points(given: EntryPoints | None) -> list[metadata.EntryPoint]:
    if given is not None:
        return list(given)
    found = metadata.entry_points(group=ENTRY_POINT_GROUP)
    # An editable and a plain install of the same thing are no clash.
    unique = {(one.name, one.value, _distribution(one)): one for one in found}
    return list(unique.values())


def _distribution(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown distribution"


def _clash(entries: list[metadata.EntryPoint]) -> str:
    owners = " and ".join(sorted(_distribution(entry) for entry in entries))
    return f"backend name {entries[0].name!r} is claimed by {owners}: uninstall one"


def _with_error(info: BackendInfo, error: str) -> BackendInfo:
    return BackendInfo(name=info.name, distribution=info.distribution, error=error)


def _build(entry: metadata.EntryPoint, config: dict[str, object]) -> Backend:
    owner = f"backend {entry.name!r} of {_distribution(entry)}"
    try:
        factory: Callable[..., Any] = entry.load()
    except Exception as exc:
        # A plug-in may fail at import in any way; one name for the user.
        raise BackendUnavailable(f"{owner} cannot be loaded: {exc}") from exc
    try:
        backend = factory(**config)
    except KyutaiStreamError:
        raise
    except TypeError as exc:
        raise ConfigError(f"{owner} refuses its settings: {exc}") from exc
    except Exception as exc:
        raise BackendUnavailable(f"{owner} cannot be set up: {exc}") from exc
    if not isinstance(backend, Backend):
        raise BackendUnavailable(f"{owner} does not fulfil the backend contract")
    return backend
