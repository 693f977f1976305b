"""Libraries that are missing, and a microphone that is none."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from .sources import hum


@pytest.fixture
def without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import util

    real = util.find_spec
    monkeypatch.setattr(
        util, "find_spec", lambda name, *a: None if name == "av" else real(name, *a)
    )


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A stand-in for sounddevice whose microphone brings so many blocks of 20 ms."""

    def install(blocks: int) -> None:
        fake: Any = types.ModuleType("sounddevice")

        class PortAudioError(Exception):
            pass

        class InputStream:
            def __init__(self, *, blocksize: int, callback: Any, **_: Any) -> None:
                self.closing = threading.Event()

                def play() -> None:
                    for _ in range(blocks):
                        if self.closing.wait(0.001):
                            return
                        block = np.resize(hum(4), (blocksize, 1))
                        callback(block, blocksize, None, None)

                self.thread = threading.Thread(target=play)

            def __enter__(self) -> InputStream:
                self.thread.start()
                return self

            def __exit__(self, *_: object) -> None:
                self.closing.set()
                self.thread.join()

        def query_devices(device: object, kind: str) -> dict[str, float]:
            if device is not None:
                raise ValueError("No input device matching 'none'")
            return {"default_samplerate": 44_100.0}

        fake.PortAudioError = PortAudioError
        fake.InputStream = InputStream
        fake.query_devices = query_devices
        monkeypatch.setitem(sys.modules, "sounddevice", fake)

    return install
