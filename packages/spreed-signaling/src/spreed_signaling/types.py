# SPDX-License-Identifier: MIT
"""Values shared by every layer: participants, in-call flags, ICE servers."""

from __future__ import annotations

import enum

from attrs import field, frozen

__all__ = ["IceServer", "InCallFlags", "Participant"]


class InCallFlags(enum.IntFlag):
    """How somebody takes part in the call.

    Source:
        Talk's `inCall` bits. `WITH_AUDIO` means "joined with a microphone
        track", not "unmuted".
    """

    DISCONNECTED = 0
    IN_CALL = 1
    WITH_AUDIO = 2
    WITH_VIDEO = 4
    WITH_PHONE = 8


@frozen(kw_only=True)
class Participant:
    """One session in the room, as far as the server has told us."""

    session_id: str
    """The HPB's public session id: opaque, used as recipient and sender."""
    nc_session_id: str | None = None
    """Nextcloud's session id; unknown for internal and some other clients."""
    user_id: str = ""
    """Nextcloud user id; empty for guests and internal clients."""
    display_name: str = field(default="", repr=False)
    """Name to show; empty until the server sends one."""
    in_call: InCallFlags = InCallFlags.DISCONNECTED
    internal: bool = False
    """A service such as this bot, a recorder or the SIP bridge."""
    virtual: bool = False
    """A phone caller whose audio travels in an internal client's stream."""
    federated: bool = False
    """From another Nextcloud server."""
    actor_type: str = ""
    actor_id: str = ""
    features: frozenset[str] = frozenset()
    """Client features announced by this session."""

    @property
    def has_audio(self) -> bool:
        """Whether a stream with audio can be requested from this session.

        Source:
            Talk's web client requests a peer for in-call sessions with audio
            or video. Internal sessions count too: the SIP bridge publishes
            its callers' audio.
        """
        wanted = InCallFlags.IN_CALL | InCallFlags.WITH_AUDIO
        return self.in_call & wanted == wanted and not self.virtual


@frozen(kw_only=True)
class IceServer:
    """A STUN or TURN server, as Talk's signaling settings name it."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)
