# SPDX-License-Identifier: MIT
"""From options and environment to a backend."""

from __future__ import annotations

import inspect
import json
from importlib import metadata
from typing import Any

from attrs import field, frozen

from ..backend import Backend
from ..errors import ConfigError
from ..registry import ENTRY_POINT_GROUP, get_backend

__all__ = ["BackendChoice", "parse_setting"]


@frozen(kw_only=True)
class BackendChoice:
    """Which backend, and what it shall be told."""

    name: str | None = None
    """Its name; None as for `get_backend`."""
    typed: dict[str, Any] = field(factory=dict, repr=False)
    """Settings from the command line: refused loudly where they do not fit."""
    ambient: dict[str, Any] = field(factory=dict, repr=False)
    """Settings from the environment: for those backends that know them."""

    def build(self) -> Backend:
        """Load the backend.

        Raises:
            ConfigError: As for `get_backend`.
            BackendUnavailable: As for `get_backend`.
        """
        return get_backend(self.name, **self.config())

    def config(self) -> dict[str, Any]:
        """The settings that this backend gets."""
        known = _parameters(self.name)
        fitting = {
            name: value
            for name, value in self.ambient.items()
            if known is not None and name in known
        }
        return fitting | self.typed


def _parameters(name: str | None) -> set[str] | None:
    """Names of the settings a backend takes; None if that cannot be told."""
    if name is None:
        return None
    entries = list(metadata.entry_points(group=ENTRY_POINT_GROUP, name=name))
    if len(entries) != 1:
        return None
    try:
        parameters = inspect.signature(entries[0].load()).parameters.values()
    except Exception:
        # Whatever is wrong with a plug-in, `get_backend` will say it better.
        return None
    return {parameter.name for parameter in parameters}


def parse_setting(text: str) -> tuple[str, object]:
    """Read `NAME=VALUE`; the value is JSON where it can be, else text.

    Raises:
        ConfigError: If there is no name or no `=`.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ConfigError(f"--set takes NAME=VALUE, not {name!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
