# SPDX-License-Identifier: MIT
"""The gateway's own numbers, as Prometheus text."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

__all__ = ["Histogram", "Metrics", "Sample"]

PREFIX = "kyutai_gateway_"

STEP_BUCKETS = (0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.32, 0.5, 1.0, 2.0, 5.0)
LIFE_BUCKETS = (1.0, 10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)


class Histogram:
    """Counts of values below bounds.

    Args:
        bounds: Upper bounds, ascending.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> Iterator[str]:
        """Return its samples."""
        total = 0
        for bound, count in zip(self._bounds, self._counts, strict=False):
            total += count
            yield f'{name}_bucket{{le="{bound:g}"}} {total}'
        total += self._counts[-1]
        yield f'{name}_bucket{{le="+Inf"}} {total}'
        yield f"{name}_sum {self._sum:.6g}"
        yield f"{name}_count {total}"


Sample = tuple[str, str, str, float]
"""Name, kind (`gauge`, `counter`), meaning, value."""


class Metrics:
    """What happened since the start."""

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        """Streams by how they ended."""
        self.refused: Counter[str] = Counter()
        """Streams refused before audio, by code; `401` for bad credentials."""
        self.audio_samples = 0
        """Samples received by streams that have ended."""
        self.words = 0
        """Words told by streams that have ended."""
        self.step_delay = Histogram(STEP_BUCKETS)
        """Seconds from a frame's way upstream to its step."""
        self.life = Histogram(LIFE_BUCKETS)
        """Seconds that streams lasted."""

    def render(self, more: Iterable[Sample] = ()) -> str:
        """Return everything in Prometheus' text format.

        Args:
            more: What others know: places, the model server's state.
        """
        lines: list[str] = []
        for name, kind, meaning, value in more:
            lines += _head(name, kind, meaning)
            lines.append(f"{PREFIX}{name} {value:.12g}")
        lines += _head("streams_ended_total", "counter", "Streams by how they ended.")
        lines += _by("streams_ended_total", "reason", self.ended)
        lines += _head("streams_refused_total", "counter", "Streams refused.")
        lines += _by("streams_refused_total", "code", self.refused)
        for name, meaning, histogram in (
            (
                "step_delay_seconds",
                "From a frame's way upstream to its step.",
                self.step_delay,
            ),
            ("stream_seconds", "Life of streams that have ended.", self.life),
        ):
            lines += _head(name, "histogram", meaning)
            lines += histogram.lines(PREFIX + name)
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP {PREFIX}{name} {meaning}", f"# TYPE {PREFIX}{name} {kind}"]


def _by(name: str, label: str, counts: Counter[str]) -> list[str]:
    return [
        f'{PREFIX}{name}{{{label}="{value}"}} {count}'
        for value, count in sorted(counts.items())
    ]
