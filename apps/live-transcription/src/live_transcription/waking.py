# SPDX-License-Identifier: AGPL-3.0-or-later
"""Waking a recogniser that sleeps, as soon as a call wants captions.

A server that costs nothing at night takes long to start; that time should pass while
we join the call, not after somebody has spoken. Waking costs money, so it is done
when captions of a call start and never otherwise.
"""

from __future__ import annotations

import logging

import anyio
from anyio.abc import TaskGroup

from kyutai_stream import Backend, KyutaiStreamError, Warmable

__all__ = ["Waker"]

_log = logging.getLogger(__name__)

LONGEST_S = 180.0
"""A backend has time-outs of its own; this is for one that has not."""


class Waker:
    """Wakes the recogniser beside everything else; what fails is only logged.

    Nothing depends on it: each speaker's session connects and waits by itself.

    Args:
        tasks: Where it runs.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._busy = False

    def wake(self, backend: Backend) -> None:
        """Begin to wake it and return at once.

        Does nothing where there is nothing to be woken, or while that is under way.
        """
        if self._busy or not isinstance(backend, Warmable):
            return
        self._busy = True
        self._tasks.start_soon(self._wake, backend)

    async def _wake(self, backend: Warmable) -> None:
        began = anyio.current_time()
        try:
            with anyio.fail_after(LONGEST_S):
                ready = await backend.warm()
        except KyutaiStreamError as exc:
            _log.warning("the recogniser could not be woken: %s", exc)
        except Exception as exc:
            # Not its text: nobody knows what is in it.
            _log.warning("waking the recogniser failed: %s", type(exc).__name__)
        else:
            state = "ready" if ready else "asked to wake up"
            waited_s = anyio.current_time() - began
            _log.info("the recogniser is %s after %.1f s", state, waited_s)
        finally:
            self._busy = False
