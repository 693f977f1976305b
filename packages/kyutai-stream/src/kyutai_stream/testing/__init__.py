# SPDX-License-Identifier: MIT
"""Test kit for users of the library and authors of backends.

`speak` and `ToneRecogniser` are words that are really in the audio, `run_virtual`
and `VirtualTimeLoop` make waiting free, `FakeMoshiServer` and `FakeGateway` are the
two kinds of server on loopback, with faults on demand. `ScriptedBackend` plays a
known transcript in time with the audio; `check_backend` runs the conformance suite
against any backend. The fakes need the extra `testing`; the rest needs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .conformance import ConformanceError, check_backend
from .scripted import (
    ConnectionScript,
    ScriptedBackend,
    ScriptedConnection,
    ScriptedWord,
)
from .tones import VOCABULARY, HeardWord, ToneRecogniser, Utterance, speak
from .virtual_time import VirtualDeadlock, VirtualTimeLoop, run_virtual

if TYPE_CHECKING:
    from .gateway import FakeGateway
    from .moshi_server import ConnectionPlan, FakeMoshiServer, Redecoding

__all__ = [
    "VOCABULARY",
    "ConformanceError",
    "ConnectionPlan",
    "ConnectionScript",
    "FakeGateway",
    "FakeMoshiServer",
    "HeardWord",
    "Redecoding",
    "ScriptedBackend",
    "ScriptedConnection",
    "ScriptedWord",
    "ToneRecogniser",
    "Utterance",
    "VirtualDeadlock",
    "VirtualTimeLoop",
    "check_backend",
    "run_virtual",
    "speak",
]

# These need websockets and msgpack, so they are loaded when they are asked for.
_LAZY = {
    "ConnectionPlan": "moshi_server",
    "FakeGateway": "gateway",
    "FakeMoshiServer": "moshi_server",
    "Redecoding": "moshi_server",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _LAZY[name]
    try:
        return getattr(import_module(f".{module}", __name__), name)
    except ModuleNotFoundError as exc:
        # Not an AttributeError: `from … import` would hide the reason.
        raise ImportError(
            f"{name} needs {exc.name}: pip install 'kyutai-stream[testing]'"
        ) from exc
