# SPDX-License-Identifier: AGPL-3.0-or-later
"""The speech that the demo's talkers publish: bundled clips or the user's own files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen

__all__ = ["Clip", "ClipError", "bundled_clips", "load_clip", "load_clips"]

_BUNDLED = Path(__file__).with_name("clips")

_RATE = 16_000
"""Hz at which a file is looked at; what is published keeps its own rate."""

_WINDOW = _RATE // 100

_VOICED = 10 ** (-40 / 20)
"""Root mean square, full scale 1.0, from which 10 ms count as voiced: -40 dBFS.

Source: chosen. The pauses of the bundled clips are digital silence; room noise of a
recording lies well below, its speech well above.
"""


class ClipError(Exception):
    """A speech file cannot be used.

    Args:
        path: The file.
        reason: What is wrong with it, in plain words.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@frozen(kw_only=True)
class Clip:
    """One talker's speech."""

    name: str
    """Display name of the talker."""
    path: Path
    """Audio file of any format that FFmpeg reads."""
    text: str | None
    """What is said in it, word for word; None where that is not known."""
    duration_s: float
    """Seconds of audio in the file."""
    voice_start_s: float
    """Seconds from the beginning of the file to the first voiced sample."""


def bundled_clips() -> tuple[Clip, ...]:
    """Return the clips that come with the app, always in the same order.

    Reads files (about 20 ms each); call it before the event loop matters.

    Raises:
        ClipError: If the installation is damaged.
    """
    return tuple(
        load_clip(path, name=path.stem.replace("_", " ").title())
        for path in sorted(_BUNDLED.glob("*.wav"))
    )


def load_clip(path: Path, *, name: str | None = None) -> Clip:
    """Look at one audio file: does it open, how long is it, where does speech start.

    The reference text is taken from a `.txt` file beside it (same stem, UTF-8), where
    there is one. Reads the whole file and blocks meanwhile.

    Args:
        path: Audio file of any format that FFmpeg reads.
        name: Display name of the talker; None makes one from the file's name.

    Raises:
        ClipError: If the file cannot be read, has no audio or only silence, or if
            its text is not UTF-8.
    """
    duration_s, voice_start_s = _measure(path)
    if voice_start_s is None:
        raise ClipError(path, "it holds no sound louder than -40 dBFS")
    return Clip(
        name=name or " ".join(path.stem.replace("_", " ").split()) or "Talker",
        path=path,
        text=_reference(path),
        duration_s=duration_s,
        voice_start_s=voice_start_s,
    )


def load_clips(paths: Iterable[Path]) -> tuple[Clip, ...]:
    """Load several files; equal names are told apart by a number ("talk 2").

    Raises:
        ClipError: As `load_clip`, for the first file that fails.
    """
    clips: list[Clip] = []
    taken: set[str] = set()
    for path in paths:
        clip = load_clip(path)
        name, number = clip.name, 1
        while name in taken:
            number += 1
            name = f"{clip.name} {number}"
        taken.add(name)
        clips.append(evolve(clip, name=name))
    return tuple(clips)


def _reference(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    try:
        return " ".join(beside.read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise ClipError(beside, "the text beside the audio is not readable") from exc


def _measure(path: Path) -> tuple[float, float | None]:
    """Length and time of the first voiced window (None if none is), in seconds."""
    samples = 0
    voiced: float | None = None
    rest = np.zeros(0, np.float32)
    try:
        for piece in _decode(path):
            samples += len(piece)
            if voiced is not None:
                continue
            rest = np.concatenate([rest, piece])
            windows = rest[: len(rest) // _WINDOW * _WINDOW].reshape(-1, _WINDOW)
            loud = np.flatnonzero(np.sqrt((windows**2).mean(axis=1)) >= _VOICED)
            if len(loud):
                begin = samples - len(rest) + int(loud[0]) * _WINDOW
                voiced = begin / _RATE
            rest = rest[windows.size :]
    except (OSError, av.error.FFmpegError) as exc:
        # PyAV's errors for missing files are OSErrors too; the text names the cause.
        reason = getattr(exc, "strerror", None) or "it is not an audio file"
        raise ClipError(path, f"cannot be read ({reason})") from exc
    return samples / _RATE, voiced


def _decode(path: Path) -> Iterator[npt.NDArray[np.float32]]:
    """The file's first audio stream as float32 mono of 16 000 Hz, shape `(n,)`."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise ClipError(path, "it has no audio in it")
        resampler = av.AudioResampler(format="flt", layout="mono", rate=_RATE)
        for frame in container.decode(audio=0):
            for out in resampler.resample(frame):
                yield out.to_ndarray().reshape(-1).astype(np.float32)
        for out in resampler.resample(None):
            yield out.to_ndarray().reshape(-1).astype(np.float32)
