# SPDX-License-Identifier: MIT
"""What is to be checked, and how long answers may take."""

from __future__ import annotations

from attrs import frozen

from ._link import Samples, Target

__all__ = ["Plan"]


@frozen(kw_only=True)
class Plan:
    """What to check."""

    target: Target
    audio: Samples
    """Mono, 24 kHz."""
    speech: bool = False
    """Whether the audio is speech, in which words must be found."""
    open_doors: bool = False
    """Whether the gateway is meant to let everybody in."""
    start_timeout_s: float = 300.0
    answer_s: float = 20.0
    """For everything that a started gateway does at once."""
    idle_s: float = 0.0
    """How long a silent stream is held; 0 not at all."""
    rotation_s: float = 0.0
    """How long to wait for the notice of a rotation; 0 not at all."""
