# SPDX-License-Identifier: MIT
"""What the shell has to do when something happened in the hub."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Effect", "MediaEnded", "RoomLeft", "RoomPing"]


@frozen(kw_only=True)
class RoomLeft:
    """Nextcloud has to be told that a session left."""

    backend_url: str
    room_token: str
    user_id: str
    nc_session_id: str


@frozen(kw_only=True)
class RoomPing:
    """Nextcloud has to be told which sessions are alive."""

    backend_url: str
    room_token: str
    entries: tuple[tuple[str, str], ...]
    """User id and Nextcloud session id of each."""


@frozen(kw_only=True)
class MediaEnded:
    """A session's publishers and subscribers have to be closed."""

    session_id: str


Effect = RoomLeft | RoomPing | MediaEnded
