# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a room's speakers have to say to the log: each trouble once, and its end.

A recogniser that is away is away for everybody, and is tried again and again: the log
tells of it once for the room. Which speaker it was is in the line's
`speaker_session_id`, the id by which the signaling server's log knows her, too.
"""

from __future__ import annotations

import logging

__all__ = ["RoomLog"]

_log = logging.getLogger(__name__)


class RoomLog:
    """One room's.

    Args:
        room_token: Talk's conversation token.
    """

    def __init__(self, room_token: str) -> None:
        self._room_token = room_token
        self._troubles: dict[str, str] = {}
        """What each speaker suffers from who suffers."""

    def warn(self, session_id: str, text: str, *args: object) -> None:
        """Tell of something that an administrator should see."""
        _log.warning(text, *args, extra=self._fields(session_id))

    def info(self, session_id: str, text: str, *args: object) -> None:
        """Tell of something that explains the lines around it."""
        _log.info(text, *args, extra=self._fields(session_id))

    def begin(self, session_id: str, trouble: str) -> None:
        """A speaker has this trouble, instead of another one she may have had."""
        known = trouble in self._troubles.values()
        self._troubles[session_id] = trouble
        if not known:
            self.warn(session_id, "%s", trouble)

    def end(self, session_id: str) -> None:
        """A speaker has no trouble; told when nobody has that one any more."""
        trouble = self._troubles.pop(session_id, None)
        if trouble is not None and trouble not in self._troubles.values():
            self.info(session_id, "over: %s", trouble)

    def forget(self, session_id: str) -> None:
        """A speaker is gone, whatever she suffered from."""
        self._troubles.pop(session_id, None)

    def _fields(self, session_id: str) -> dict[str, str]:
        return {"room_token": self._room_token, "speaker_session_id": session_id}
