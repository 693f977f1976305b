# SPDX-License-Identifier: MIT
"""`kyutai-stream bench`: word error rate and latency over a folder of recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
from attrs import field, frozen

from ..audio import MODEL_RATE, AudioFormat, Resampler, to_mono
from ..backend import Backend
from ..core import SpeechDetector
from ..errors import ConfigError, KyutaiStreamError
from ..events import Final, Gap, Partial, SessionEvent
from ..subtitles import CueRules, caption_line, timed_words
from ..transcribe import Transcription, file_source, open_decoder
from ._failures import describe
from ._scoring import WordErrors, count_errors, normalise

__all__ = ["FileResult", "Recording", "bench", "find_recordings", "measure"]

NOT_STRETCHED = CueRules(good_chars_per_s=1e6)

Said = Sequence[tuple[SessionEvent, float]]


@frozen(kw_only=True)
class Recording:
    """A recording and what is said in it."""

    audio: Path
    reference: str = field(repr=False)


@frozen(kw_only=True)
class FileResult:
    """What one recording gave; times in seconds, None where not measured."""

    name: str
    error: str | None = None
    """Why it could not be transcribed."""
    audio_s: float = 0.0
    raw: WordErrors | None = None
    """Compared as written."""
    normalised: WordErrors | None = None
    """Compared without case and punctuation."""
    ttfs_s: float | None = None
    """End of speech to the last final."""
    first_partial_s: float | None = None
    """Begin of speech to the first words."""
    word_latency_s: tuple[float, ...] = ()
    """End of each word to its first appearance; ends are estimated."""
    rtf: float | None = None
    """Time taken ÷ time of the audio; at pace 1 at least 1."""
    gaps: int = 0
    captions: tuple[str, ...] = field(default=(), repr=False)
    """All captions as JSON Lines."""


def find_recordings(folder: Path) -> list[Recording]:
    """Find the files beside which a text of the same name lies.

    Raises:
        ConfigError: If there are none.
        OSError: If the folder or a text cannot be read.
    """
    texts = sorted(path for path in folder.iterdir() if path.suffix == ".txt")
    found = []
    for text in texts:
        audio = [
            path
            for path in sorted(folder.glob("*"))
            if path.stem == text.stem
            and path.suffix.lower()
            not in (".txt", ".md", ".json", ".jsonl", ".srt", ".vtt")
            and path.is_file()
        ]
        for path in audio:
            reference = text.read_text(encoding="utf-8")
            found.append(Recording(audio=path, reference=reference))
    if not found:
        raise ConfigError(
            f"no recordings in {str(folder)!r}: a file such as meeting.wav with its"
            " text in meeting.txt is looked for"
        )
    return found


async def bench(
    recordings: Iterable[Recording],
    backend: Backend,
    *,
    language: str | None,
    pace: float,
    done: Callable[[FileResult], None],
) -> list[FileResult]:
    """Transcribe one after the other; a failing file does not stop the rest.

    Raises:
        ConfigError: If the backend recognises nothing, or a setting is wrong.
    """
    if not backend.capabilities.transcribes:
        raise ConfigError(
            f"{backend.name} recognises nothing that could be measured:"
            " name a recogniser with --backend"
        )
    results = []
    for recording in recordings:
        try:
            result = await _measured(recording, backend, language, pace)
        except ConfigError:
            raise
        except (KyutaiStreamError, OSError) as exc:
            result = FileResult(name=recording.audio.name, error=describe(exc))
        results.append(result)
        done(result)
    return results


async def _measured(
    recording: Recording, backend: Backend, language: str | None, pace: float
) -> FileResult:
    speech = await anyio.to_thread.run_sync(speech_span, recording.audio)
    running = Transcription(
        file_source(recording.audio, pace=pace), backend=backend, language=language
    )
    said: list[tuple[SessionEvent, float]] = []
    async with running:
        opened_at = anyio.current_time()
        async for event in running:
            began_at = running.started_at or opened_at
            said.append((event, anyio.current_time() - began_at))
        took_s = anyio.current_time() - (running.started_at or opened_at)
        audio_s = running.position_s
    return measure(
        recording, said, speech=speech, audio_s=audio_s, took_s=took_s, pace=pace
    )


def speech_span(path: Path) -> tuple[float, float] | None:
    """Find the begin of the first and the end of the last speech, by energy.

    Returns:
        Seconds; None if nothing is loud enough.
    """
    decoder = open_decoder(path)
    try:
        rate = decoder.format.sample_rate
        resampler = Resampler(rate) if rate != MODEL_RATE else None
        detector = SpeechDetector()
        changes = []
        while (block := decoder.read()) is not None:
            samples = to_mono(block, AudioFormat(sample_rate=rate))
            changes += detector.push(resampler.push(samples) if resampler else samples)
        changes += detector.finish()
    finally:
        decoder.close()
    starts = [change.at for change in changes if change.active]
    ends = [change.at for change in changes if not change.active]
    return (starts[0], ends[-1]) if starts and ends else None


def measure(
    recording: Recording,
    said: Said,
    *,
    speech: tuple[float, float] | None,
    audio_s: float,
    took_s: float,
    pace: float,
) -> FileResult:
    """Compute one file's figures.

    Args:
        recording: The reference.
        said: Events with the seconds since media second 0 was due.
        speech: Begin and end of speech, media seconds.
        audio_s: Seconds of audio.
        took_s: Seconds from media second 0 to the end of iteration.
        pace: At 0 no latencies are computed: the audio was there all at once.
    """
    finals = [(event, at) for event, at in said if isinstance(event, Final)]
    captions = [(event, at) for event, at in said if isinstance(event, Partial | Final)]
    text = " ".join(event.text for event, _ in finals)
    ttfs_s = first_s = None
    if pace and speech is not None and finals:
        ttfs_s = finals[-1][1] - speech[1] / pace
        first_s = captions[0][1] - speech[0] / pace
    return FileResult(
        name=recording.audio.name,
        audio_s=audio_s,
        raw=count_errors(recording.reference, text),
        normalised=count_errors(normalise(recording.reference), normalise(text)),
        ttfs_s=ttfs_s,
        first_partial_s=first_s,
        word_latency_s=tuple(_word_latencies(captions, pace)) if pace else (),
        rtf=took_s / audio_s if audio_s else None,
        gaps=sum(isinstance(event, Gap) for event, _ in said),
        captions=tuple(caption_line(event, at) for event, at in captions),
    )


def _word_latencies(
    captions: Sequence[tuple[Partial | Final, float]], pace: float
) -> Iterable[float]:
    shown: dict[int, list[float]] = {}
    for event, at in captions:
        times = shown.setdefault(event.segment_id, [])
        times += [at] * (len(event.text.split()) - len(times))
        if isinstance(event, Final):
            words = timed_words([event], NOT_STRETCHED)
            for word, appeared in zip(words, times, strict=True):
                yield appeared - word.end_ms / 1000 / pace
