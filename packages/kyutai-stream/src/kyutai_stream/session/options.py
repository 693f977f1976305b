# SPDX-License-Identifier: MIT
"""Settings of a session."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from attrs import Factory, field, frozen, validators

from ..audio import AudioFormat
from ..core import DeafRules, RetryPolicy
from ..transcript import SegmentRules

__all__ = ["SessionOptions"]

_positive = validators.gt(0.0)
_at_least_one = validators.ge(1)


@frozen(kw_only=True)
class SessionOptions:
    """How a session behaves; the defaults suit live captions."""

    input_format: AudioFormat = Factory(AudioFormat)
    """Rate of the pushed audio, and encoding and channels of pushed bytes."""
    input_buffer_s: float = field(default=30.0, validator=_positive)
    """Most seconds of audio that may wait before `push` waits too."""
    replay_s: float = field(default=30.0, validator=validators.ge(5.0))
    """Longest outage that loses nothing: so much audio (and a little more, for the
    seam and the way back) is kept while the recogniser is away. Beyond it, the
    oldest audio of `try_push` becomes a `Gap`. At least 5, which a seam needs; 96 kB
    of memory per second."""
    cold_start_s: float = field(default=120.0, validator=_positive)
    """The same before the first connection and after an idle one, when a server may
    have to start from zero."""
    max_lateness_s: float | None = None
    """Audio that has waited longer than this is not worth a caption any more: it
    becomes a `Gap` instead of being sent. None sends everything."""
    event_buffer: int = field(default=1024, validator=_at_least_one)
    """Most undelivered events (partials are merged first). When full, reading
    from the backend waits, which in the end makes `push` wait."""
    stall_s: float = 0.3
    """Audio this late (mute, DTX, lost track) counts as a pause: the last words
    are flushed out, by silence that the recogniser hears. Counted from when the
    pushed audio would have been played."""
    stall_loud_s: float = 1.5
    """The same where the audio stopped in the middle of sound: silence there would
    cut a word in two if it was only the network that stalled. Mobile networks and
    busy machines stall for a second; nobody's word ends without a moment of quiet."""
    gap_silence_s: float = 1.0
    """Most silence fed for a jump in `media_time`; the rest only moves the map."""
    send_window: int = field(default=16, validator=_at_least_one)
    """Most frames sent and not yet acknowledged, where the backend acknowledges."""
    catch_up_speed: float | None = 5.0
    """Most times real time that a backlog is sent; None for as fast as it is taken."""
    connect_timeout_s: float = 150.0
    """Time for a connection to become ready: as long as a platform may hold a
    handshake while it starts a container. Backends have shorter bounds of their
    own where a server is known to run."""
    send_timeout_s: float = 10.0
    """Time for the backend to take one frame, a flush request or a keepalive."""
    progress_timeout_s: float = 5.0
    """Time without acknowledgement of audio that was sent, before the connection
    counts as half-open and is replaced."""
    end_timeout_s: float = 30.0
    """After `end_input`: longest time without any progress, seconds (before the
    first connection `cold_start_s`). What is not transcribed by then is a `Gap`."""
    idle_release_s: float | None = 60.0
    """Without sound for so long, the place at the recogniser is given back until
    somebody speaks; None keeps it."""
    pre_roll_s: float = 1.0
    """Quiet audio from before that moment which is sent along."""
    deaf: DeafRules | None = Factory(DeafRules)
    """When a recogniser without words is restarted; None for never. Not used with
    backends that do not transcribe."""
    language_policy: Literal["report", "reset"] = field(
        default="report", validator=validators.in_(("report", "reset"))
    )
    """What follows a `LanguageMismatch`: nothing, or a reset at the next pause."""
    prime_audio: npt.NDArray[np.float32] | None = field(
        default=None, repr=False, eq=False
    )
    """Some seconds of speech in the wanted language, heard by the recogniser at the
    begin of every connection and reset, never by the reader: mono PCM, float32,
    shape `(n,)`, 24 000 Hz."""
    retry: RetryPolicy = Factory(RetryPolicy)
    """When to connect again."""
    segments: SegmentRules = Factory(SegmentRules)
    """When a segment becomes final."""
