# SPDX-License-Identifier: MIT
"""Where the CPU time goes: a sampling profiler, cheap enough to leave figures true."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import PurePath
from types import CodeType, FrameType

from ._figures import Row

__all__ = ["Sampler"]

INTERVAL_S = 0.001


class Sampler:
    """Looks every millisecond of CPU time where the main thread is.

    Time inside of C counts for the Python function that called it.
    """

    def __init__(self) -> None:
        self._own: Counter[CodeType] = Counter()
        self._under: Counter[CodeType] = Counter()
        self._samples = 0

    def start(self) -> None:
        """Begin; only in the main thread."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def stop(self) -> None:
        """End."""
        signal.setitimer(signal.ITIMER_PROF, 0)

    def rows(self, cpu_us: float, count: int) -> list[Row]:
        """Return the dearest functions: by their own time, then with what they call.

        Args:
            cpu_us: What all samples together cost, in the unit that is wanted.
            count: Of functions, each way.
        """
        dearest = dict(self._own.most_common(count))
        # The loop itself calls everything, which says nothing.
        calling = Counter(
            {c: n for c, n in self._under.items() if n < 0.9 * self._samples}
        )
        dearest |= dict(calling.most_common(count))
        share = cpu_us / max(1, self._samples)
        return [
            {
                "function": _name(code),
                "own_us_per_audio_s": self._own[code] * share,
                "with_callees_us_per_audio_s": self._under[code] * share,
            }
            for code in dearest
        ]

    def _sample(self, number: int, frame: FrameType | None) -> None:
        self._samples += 1
        if frame is None:
            return
        self._own[frame.f_code] += 1
        seen = set()
        while frame is not None:
            if frame.f_code not in seen:
                seen.add(frame.f_code)
                self._under[frame.f_code] += 1
            frame = frame.f_back


def _name(code: CodeType) -> str:
    path = PurePath(code.co_filename)
    return f"{'/'.join(path.parts[-2:])}:{code.co_qualname}"
