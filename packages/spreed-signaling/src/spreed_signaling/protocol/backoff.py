# SPDX-License-Identifier: MIT
"""Delays between attempts. The verdict whether to retry belongs to the errors."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["REFUSED_DELAY_S", "ReconnectDelays", "retry_delays"]

REFUSED_DELAY_S = 240.0
"""Pause after a refused internal secret, seconds.

Source:
    The server counts failed internal hellos per address; ten within 30 minutes
    block it for all its clients. Every four minutes stays below that.
"""

_FIRST_STEPS_S = (0.5, 1.0, 2.0)
_STEADY_S = 2.0
_FIRST_MINUTE_S = 60.0
_LONGEST_S = 16.0


class ReconnectDelays:
    """Delays of one outage: 0.5, 1, 2 s, every 2 s for a minute, then up to 16 s.

    Captions should be back soon after a restart of the server, which usually
    takes seconds; a long outage must not be hammered.

    Args:
        jitter: Source of randomness; every delay is scaled by 0.75 to 1.25 so
            that many clients do not return in step.
    """

    def __init__(self, jitter: random.Random | None = None) -> None:
        self._random = random.Random() if jitter is None else jitter
        self.reset()

    def reset(self) -> None:
        """The outage is over."""
        self._attempts = 0
        self._elapsed_s = 0.0
        self._late_s = _STEADY_S

    def next(self) -> float:
        """Return the seconds to wait before the next attempt."""
        if self._attempts < len(_FIRST_STEPS_S):
            delay = _FIRST_STEPS_S[self._attempts]
        elif self._elapsed_s < _FIRST_MINUTE_S:
            delay = _STEADY_S
        else:
            # Doubles from the steady pace: 4, 8, 16, 16 ...
            self._late_s = min(_LONGEST_S, 2 * self._late_s)
            delay = self._late_s
        self._attempts += 1
        self._elapsed_s += delay
        return delay * self._random.uniform(0.75, 1.25)


def retry_delays(
    first_s: float = 1.0, longest_s: float = 30.0, jitter: random.Random | None = None
) -> Iterator[float]:
    """Yield doubling delays in seconds with jitter, without end."""
    source = random.Random() if jitter is None else jitter
    delay = first_s
    while True:
        yield delay * source.uniform(0.75, 1.25)
        delay = min(longest_s, delay * 2)
