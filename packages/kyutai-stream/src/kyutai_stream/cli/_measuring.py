# SPDX-License-Identifier: MIT
"""The shell of `kyutai-stream bench`: progress, files, exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from attrs import frozen
from rich.console import Console
from rich.progress import Progress

from ..backend import Backend
from ..errors import ConfigError
from ._bench import FileResult, bench, find_recordings
from ._failures import FAILED, warn
from ._report import print_report, summary

__all__ = ["BenchJob", "measure_all"]


@frozen(kw_only=True)
class BenchJob:
    """What to measure."""

    folder: Path
    backend: Backend
    language: str | None
    pace: float
    hypotheses: Path | None
    as_json: bool


async def measure_all(job: BenchJob) -> int:
    """Measure, print, and write the captions where they are wanted.

    Returns:
        The exit code: 1 if a file could not be transcribed.
    """
    recordings = find_recordings(job.folder)
    if job.hypotheses is not None and not job.hypotheses.is_dir():
        raise ConfigError(f"there is no folder {str(job.hypotheses)!r}")
    console = Console(stderr=True)
    progress = Progress(
        console=console, transient=True, disable=not console.is_terminal
    )
    with progress:
        task = progress.add_task(f"0/{len(recordings)}", total=len(recordings))

        def done(result: FileResult) -> None:
            progress.advance(task)
            if result.error is not None:
                warn(f"{result.name}: {result.error}")
            if job.hypotheses is not None:
                log = job.hypotheses / f"{result.name}.jsonl"
                log.write_text("".join(f"{one}\n" for one in result.captions))

        results = await bench(
            recordings, job.backend, language=job.language, pace=job.pace, done=done
        )
    report = summary(results, backend=job.backend.name, pace=job.pace)
    if job.as_json:
        sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    else:
        out = Console()
        print_report(report, out if out.is_terminal else Console(width=160))
    return FAILED if any(result.error is not None for result in results) else 0
