# SPDX-License-Identifier: MIT
"""Test kit for users of the library and authors of backends.

`ScriptedBackend` plays a known transcript in time with the audio and fails on
demand; `check_backend` runs the conformance suite against any backend.
"""

from __future__ import annotations

from .conformance import ConformanceError, check_backend
from .scripted import (
    ConnectionScript,
    ScriptedBackend,
    ScriptedConnection,
    ScriptedWord,
)

__all__ = [
    "ConformanceError",
    "ConnectionScript",
    "ScriptedBackend",
    "ScriptedConnection",
    "ScriptedWord",
    "check_backend",
]
