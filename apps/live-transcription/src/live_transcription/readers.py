# SPDX-License-Identifier: AGPL-3.0-or-later
"""Who asked for captions, who of them can be reached, and when nobody is left.

Pure: `now` is an argument. A reader is known by her Nextcloud session id; the
signaling server's id of the same session, needed to reach her, becomes known when
the server tells who is in the room, which may be later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["Readers"]

Find = Callable[[str], str | None]


class Readers:
    """The readers of one call.

    Args:
        nc_session_ids: Who asked so far.
        leave_after_s: Seconds without a reachable reader until `leave_at`, and
            until one who cannot be found is given up.
        now: Seconds.
    """

    def __init__(
        self, nc_session_ids: Iterable[str], *, leave_after_s: float, now: float
    ) -> None:
        self._leave_after_s = leave_after_s
        self._lost_at: dict[str, float | None] = {}
        self._reached: dict[str, str] = {}
        self._idle_since: float | None = None
        self._joined = False
        self._company = True
        for nc_session_id in nc_session_ids:
            self._lost_at[nc_session_id] = None
        self._refresh(now)

    @property
    def asked(self) -> tuple[str, ...]:
        """Nextcloud session ids of all who want captions, oldest first."""
        return tuple(self._lost_at)

    @property
    def reached(self) -> tuple[str, ...]:
        """HPB session ids of those who can get captions now."""
        return tuple(self._reached.values())

    @property
    def waiting(self) -> int:
        """How many asked and cannot be reached yet."""
        return len(self._lost_at) - len(self._reached)

    def add(self, nc_session_id: str, now: float) -> None:
        """Somebody wants captions; asking twice changes nothing."""
        self._lost_at.setdefault(nc_session_id, None)
        if nc_session_id not in self._reached:
            self._lost_at[nc_session_id] = now if self._joined else None
        if self._idle_since is not None:
            self._idle_since = now
        self._refresh(now)

    def remove(self, nc_session_id: str, now: float) -> None:
        """Somebody wants no more captions; unknown ones are ignored."""
        self._lost_at.pop(nc_session_id, None)
        self._reached.pop(nc_session_id, None)
        self._refresh(now)

    def update(self, find: Find, *, joined: bool, company: bool, now: float) -> None:
        """Look again who can be reached.

        Args:
            find: HPB session id for a Nextcloud session id, None if not there.
            joined: Whether we are in the room; readers are only given up while
                we are, because otherwise nobody can be found.
            company: Whether anybody else is in the call.
            now: Seconds.
        """
        self._joined, self._company = joined, company
        # While the connection is down the ids stay valid: it is usually resumed.
        for nc_session_id in self.asked if joined else ():
            session_id = find(nc_session_id)
            if session_id is None:
                self._lose(nc_session_id, now)
            else:
                self._reached[nc_session_id] = session_id
                self._lost_at[nc_session_id] = None
        self._refresh(now)

    def leave_at(self) -> float | None:
        """Return when the call should be left; None while it is wanted."""
        if self._idle_since is None:
            return None
        return self._idle_since + self._leave_after_s

    def _lose(self, nc_session_id: str, now: float) -> None:
        self._reached.pop(nc_session_id, None)
        lost_at = self._lost_at[nc_session_id]
        if lost_at is None:
            self._lost_at[nc_session_id] = now
        elif now >= lost_at + self._leave_after_s:
            # A closed browser; its session id never comes back.
            del self._lost_at[nc_session_id]

    def _refresh(self, now: float) -> None:
        reachable = bool(self._reached) and self._company
        wanted = reachable or (bool(self._lost_at) and not self._joined)
        if wanted:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
