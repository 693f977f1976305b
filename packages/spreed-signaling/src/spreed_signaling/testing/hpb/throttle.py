# SPDX-License-Identifier: MIT
"""Failed attempts per action and address, and what they cost. Pure."""

from __future__ import annotations

from .options import HpbOptions

__all__ = ["Throttle"]


class Throttle:
    """Counts failures; each one delays its answer twice as long as the last.

    Source:
        HPB 2.0.2: 0.1 s and 0.2 s measured; cap, limit and window read.
    """

    def __init__(self, options: HpbOptions) -> None:
        self._options = options
        self._failures: dict[tuple[str, str], list[float]] = {}

    def blocked(self, action: str, address: str, now: float) -> bool:
        """Return whether further attempts are refused unseen."""
        found = self._recent(action, address, now)
        return len(found) >= self._options.throttle_failures

    def fail(self, action: str, address: str, now: float) -> float:
        """Count a failure and return how long to delay the answer, in seconds."""
        found = self._recent(action, address, now)
        found.append(now)
        self._failures[action, address] = found
        delay = self._options.throttle_first_s * 2.0 ** (len(found) - 1)
        return min(delay, self._options.throttle_cap_s)

    def clear(self) -> None:
        """Forget everything, as a restart does."""
        self._failures.clear()

    def _recent(self, action: str, address: str, now: float) -> list[float]:
        begin = now - self._options.throttle_window_s
        return [at for at in self._failures.get((action, address), []) if at > begin]
