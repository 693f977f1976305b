# SPDX-License-Identifier: MIT
"""Places in the audio behind which somebody waits for the words."""

from __future__ import annotations

from collections import deque

from attrs import define

from ..core import AudioRing


@define(eq=False, kw_only=True)
class Mark:
    """Such a place."""

    mark_id: int
    position: int
    token: int | None = None
    """The flush that was asked for it on this connection."""


class Marks:
    """All places that were not reached by a confirmed flush yet, in order.

    Args:
        ring: The audio; its cursor says which places are reached.
    """

    def __init__(self, ring: AudioRing) -> None:
        self._ring = ring
        self._marks: deque[Mark] = deque()
        self._last_id = 0

    def __bool__(self) -> bool:
        """Whether somebody waits for words."""
        return bool(self._marks)

    def add(self) -> int:
        """Ask for the words of everything admitted so far; returns the mark's id."""
        self._last_id += 1
        self._marks.append(Mark(mark_id=self._last_id, position=self._ring.end))
        return self._last_id

    def confirm(self, token: int | None) -> list[int]:
        """Take the marks that are fulfilled.

        Args:
            token: The confirmed flush; None for marks that need none, because
                nothing went out since the last one.

        Returns:
            Their ids.
        """
        done = []
        while self._marks:
            mark = self._marks[0]
            if token is None:
                fulfilled = mark.token is None and self._reached(mark)
            else:
                fulfilled = mark.token is not None and mark.token <= token
            if not fulfilled:
                break
            done.append(self._marks.popleft().mark_id)
        return done

    def join(self, token: int) -> None:
        """Let marks that are reached wait for a flush that was asked for before."""
        for mark in self._marks:
            if mark.token is None and self._reached(mark):
                mark.token = token

    def forget_flushes(self) -> None:
        """Note that no flush which was asked for will be confirmed any more."""
        for mark in self._marks:
            mark.token = None

    @property
    def unasked(self) -> Mark | None:
        """The next mark that waits for no flush yet."""
        return next((mark for mark in self._marks if mark.token is None), None)

    @property
    def samples_ahead(self) -> int | None:
        """Samples to the first of all marks; None without any."""
        return self._marks[0].position - self._ring.cursor if self._marks else None

    def _reached(self, mark: Mark) -> bool:
        return mark.position <= self._ring.cursor
