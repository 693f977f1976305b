# SPDX-License-Identifier: MIT
"""What the session machine wants its shell to do next."""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

Samples = npt.NDArray[np.float32]


class Leaving(enum.StrEnum):
    """Why a healthy connection is closed."""

    FINISHED = "finished"
    """The input ended and all words are out."""
    IDLE = "idle"
    """Nobody speaks: the place is given back."""
    DRAINING = "draining"
    """The server is about to close; another connection follows at once."""
    RESTART = "restart"
    """The recogniser seems deaf; a fresh connection follows at once."""


@frozen(kw_only=True)
class Send:
    """Send one frame, then call `sent`."""

    frame: Samples = field(repr=False)


@frozen(kw_only=True)
class AskFlush:
    """Ask for `Flushed(token)`."""

    token: int


@frozen
class AskReset:
    """Ask for a fresh start."""


@frozen
class AskKeepalive:
    """Keep the connection alive."""


@frozen(kw_only=True)
class Leave:
    """Close the connection and call `left`."""

    why: Leaving


@frozen(kw_only=True)
class Fail:
    """Give the connection up as lost."""

    reason: str


@frozen(kw_only=True)
class Wait:
    """Do nothing until then (monotonic seconds) or until something happens."""

    until: float


Action = Send | AskFlush | AskReset | AskKeepalive | Leave | Fail | Wait
