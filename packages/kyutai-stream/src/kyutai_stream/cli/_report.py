# SPDX-License-Identifier: MIT
"""The table and the JSON of `kyutai-stream bench`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ._bench import FileResult
from ._scoring import NO_ERRORS, WordErrors, confidence, percentile

__all__ = ["print_report", "summary"]

PERCENTILES = (50, 95, 99)


def summary(
    results: Sequence[FileResult], *, backend: str, pace: float
) -> dict[str, Any]:
    """Put all figures into one record that JSON can hold."""
    good = [result for result in results if result.error is None]
    audio_s = sum(result.audio_s for result in good)
    took_s = sum(result.audio_s * (result.rtf or 0.0) for result in good)
    return {
        "backend": backend,
        "pace": pace,
        "files": len(results),
        "failed": len(results) - len(good),
        "audio_s": round(audio_s, 3),
        "gaps": sum(result.gaps for result in good),
        "wer_raw": _wer([result.raw for result in good]),
        "wer_normalised": _wer([result.normalised for result in good]),
        "ttfs_s": _spread([result.ttfs_s for result in good]),
        "first_partial_s": _spread([result.first_partial_s for result in good]),
        "word_latency_s": _spread(
            [value for result in good for value in result.word_latency_s]
        ),
        "real_time_factor": round(took_s / audio_s, 4) if audio_s else None,
        "results": [_record(result) for result in results],
    }


def _wer(found: Sequence[WordErrors | None]) -> dict[str, Any]:
    files = [one for one in found if one is not None]
    spoken = [one for one in files if one.words]
    pooled = sum(spoken, NO_ERRORS)
    rates = [one.errors / one.words for one in spoken]
    interval = confidence(spoken)
    return {
        "pooled": _rounded(pooled.rate),
        "mean": _rounded(sum(rates) / len(rates)) if rates else None,
        "interval_95": [_rounded(bound) for bound in interval] if interval else None,
        "words": pooled.words,
        "substituted": pooled.substituted,
        "deleted": pooled.deleted,
        "inserted": pooled.inserted,
        "empty_references": len(files) - len(spoken),
        "words_heard_in_empty": sum(one.inserted for one in files if not one.words),
    }


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {f"p{p}": round(percentile(known, p), 3) for p in PERCENTILES}


def _record(result: FileResult) -> dict[str, Any]:
    if result.error is not None:
        return {"name": result.name, "error": result.error}
    return {
        "name": result.name,
        "audio_s": round(result.audio_s, 3),
        "wer_raw": _rounded(result.raw.rate if result.raw else None),
        "wer_normalised": _rounded(
            result.normalised.rate if result.normalised else None
        ),
        "ttfs_s": _rounded(result.ttfs_s),
        "first_partial_s": _rounded(result.first_partial_s),
        "word_latency_s": _spread(result.word_latency_s),
        "real_time_factor": _rounded(result.rtf),
        "gaps": result.gaps,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def print_report(report: dict[str, Any], console: Console) -> None:
    """Print a table of files and one of figures."""
    files = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("file", "audio", "WER raw", "WER norm.", "TTFS", "first", "RTF"):
        files.add_column(heading, justify="left" if heading == "file" else "right")
    for one in report["results"]:
        files.add_row(*(Text(cell) for cell in _file_cells(one)))
    console.print(files)
    console.print()
    figures = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for name, value in _figures(report):
        figures.add_row(Text(name), Text(value))
    console.print(figures)


def _file_cells(one: dict[str, Any]) -> tuple[str, ...]:
    if "error" in one:
        return str(one["name"]), "", f"FAILED: {one['error']}", "", "", "", ""
    return (
        str(one["name"]),
        _seconds(one["audio_s"]),
        _percent(one["wer_raw"]),
        _percent(one["wer_normalised"]),
        _seconds(one["ttfs_s"]),
        _seconds(one["first_partial_s"]),
        _number(one["real_time_factor"]),
    )


def _figures(report: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("backend", f"{report['backend']}, pace {report['pace']:g}"),
        ("files", f"{report['files']}, {report['failed']} failed"),
        ("audio", f"{_seconds(report['audio_s'])}, {report['gaps']} gaps"),
    ]
    for key, name in (("wer_raw", "WER raw"), ("wer_normalised", "WER normalised")):
        lines.append((name, _wer_text(report[key])))
    for key, name in (
        ("ttfs_s", "TTFS (end of speech to last final)"),
        ("first_partial_s", "first words (from begin of speech)"),
        ("word_latency_s", "word latency (from estimated end)"),
    ):
        lines.append((name, _spread_text(report[key])))
    lines.append(("real-time factor", _number(report["real_time_factor"])))
    return lines


def _wer_text(wer: dict[str, Any]) -> str:
    text = f"{_percent(wer['pooled'])} pooled, {_percent(wer['mean'])} mean of files"
    if wer["interval_95"] is not None:
        low, high = wer["interval_95"]
        text += f", 95 % interval {_percent(low)} to {_percent(high)}"
    text += f"; {wer['words']} words"
    if wer["empty_references"]:
        text += (
            f"; {wer['empty_references']} empty references,"
            f" {wer['words_heard_in_empty']} words heard there"
        )
    return text


def _spread_text(spread: object) -> str:
    if not isinstance(spread, dict):
        return "not measured (needs --pace above 0 and speech)"
    return ", ".join(f"{name} {value:.2f} s" for name, value in spread.items())


def _percent(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, float) else "-"


def _seconds(value: object) -> str:
    return f"{value:.2f} s" if isinstance(value, float) else "-"


def _number(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else "-"
