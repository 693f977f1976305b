# SPDX-License-Identifier: MIT
"""`kyutai-stream fake-server`: something to talk to without a GPU."""

from __future__ import annotations

import math
import signal
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import anyio
from attrs import frozen

from ..errors import BackendUnavailable, ConfigError

try:
    from ..testing.moshi_server import (
        STT_1B,
        STT_2_6B,
        STT_PYTHON,
        FakeMoshiServer,
        Recogniser,
        ScriptedRecogniser,
    )
    from ..testing.tones import VOCABULARY, HeardWord, ToneRecogniser, speak
except ModuleNotFoundError as exc:
    raise BackendUnavailable(
        f"{exc.name} is not installed: pip install 'kyutai-stream[testing]'"
    ) from exc

__all__ = ["ServeJob", "serve_fake", "write_tones"]

MODELS = {"1b": STT_1B, "2.6b": STT_2_6B, "python": STT_PYTHON}

WORD_S = 0.4
"""Length of a word of a script, seconds."""


@frozen(kw_only=True)
class ServeJob:
    """What to serve."""

    model: str
    """`1b`, `2.6b` or `python`."""
    speed: float
    """How many times faster than speech; 0 for as fast as possible."""
    script: str | None
    """Said to everybody whatever they send; None hears the tones."""


def write_tones(path: Path, text: str) -> None:
    """Write a WAV file with words that the server understands.

    Raises:
        ConfigError: If a word is none of its vocabulary.
    """
    try:
        spoken = speak(text, lead_s=0.5, tail_s=1.0)
    except ValueError as exc:
        raise ConfigError(f"{exc}; it has: {' '.join(VOCABULARY)}") from exc
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, spoken.sample_rate, 0, "NONE", ""))
        file.writeframes((spoken.samples * 32767).astype("<i2").tobytes())


async def serve_fake(job: ServeJob) -> int:
    """Serve on loopback until Ctrl-C.

    Returns:
        The exit code.

    Raises:
        ConfigError: If there is no such model, or the speed is no speed.
    """
    model = MODELS.get(job.model)
    if model is None:
        raise ConfigError(f"--model is one of {', '.join(MODELS)}")
    if not 0 <= job.speed < math.inf:
        raise ConfigError("--speed is 0 or more")
    server = FakeMoshiServer(
        model, listen=_listener(job.script), speed=job.speed or math.inf
    )
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with server:
            _say(f"a pretended moshi-server listens at {server.url}")
            what = "says its script" if job.script else "understands tones only"
            _say(f"it {what}; Ctrl-C ends it. In another terminal:")
            _say(
                "  kyutai-stream transcribe FILE --backend moshi-server"
                f" --url {server.url}"
            )
            async for _ in signals:
                break
    return 0


def _listener(script: str | None) -> Callable[[], Recogniser]:
    if script is None:
        return ToneRecogniser
    words = [
        HeardWord(text=text, start=n * WORD_S, end=(n + 1) * WORD_S)
        for n, text in enumerate(script.split())
    ]
    return lambda: ScriptedRecogniser(words)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
