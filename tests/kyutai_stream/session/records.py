"""What a driver writes down: what its reader was shown, which audio went where."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import define, field

from kyutai_stream import Final, Gap, Partial, SessionEvent, StateChanged, Usage
from kyutai_stream.core import FRAME_S, SAMPLE_RATE

from .recogniser import LOUD, Samples, positions


@define(eq=False)
class Shown:
    """The reader's side."""

    events: list[SessionEvent] = field(factory=list)
    times: list[float] = field(factory=list)
    """When each came, on the driver's clock."""

    def add(self, events: list[SessionEvent], now: float) -> None:
        self.events += events
        self.times += [now] * len(events)

    @property
    def finals(self) -> list[Final]:
        return [event for event in self.events if isinstance(event, Final)]

    @property
    def gaps(self) -> list[Gap]:
        return [event for event in self.events if isinstance(event, Gap)]

    @property
    def usage(self) -> Usage:
        (usage,) = (event for event in self.events if isinstance(event, Usage))
        return usage

    @property
    def states(self) -> list[str]:
        return [e.state.value for e in self.events if isinstance(e, StateChanged)]

    @property
    def text(self) -> str:
        """What the reader has, open segments included."""
        shown = {
            event.segment_id: event.text
            for event in self.events
            if isinstance(event, Partial | Final)
        }
        return " ".join(shown[number] for number in sorted(shown))

    def final_at(self, number: int = -1) -> float:
        """When a final came, on the driver's clock."""
        finals = [i for i, e in enumerate(self.events) if isinstance(e, Final)]
        return self.times[finals[number]]


@define(eq=False)
class Audio:
    """All that was pushed, and all frames that were sent."""

    sent: list[tuple[float, Samples]] = field(factory=list)
    """When, and what."""
    _pieces: list[tuple[float, int, bool]] = field(factory=list)

    def pushed(self, piece: Samples, media_time: float) -> None:
        self._pieces.append((media_time, len(piece), bool(piece[0] >= LOUD)))

    @property
    def media(self) -> npt.NDArray[np.float64]:
        """Media seconds of every pushed sample."""
        parts = [start + np.arange(n) / SAMPLE_RATE for start, n, _ in self._pieces]
        return np.concatenate([np.zeros(0), *parts])

    @property
    def sounding(self) -> npt.NDArray[np.bool_]:
        """Whether each pushed sample is loud."""
        parts = [np.full(n, is_loud) for _, n, is_loud in self._pieces]
        return np.concatenate([np.zeros(0, dtype=np.bool_), *parts])

    def within(self, gaps: list[Gap]) -> npt.NDArray[np.bool_]:
        """Whether each pushed sample lies in one of the gaps."""
        media = self.media
        mask = np.zeros(len(media), dtype=np.bool_)
        half = 0.5 / SAMPLE_RATE
        for gap in gaps:
            mask |= (media >= gap.start - half) & (media < gap.end - half)
        return mask

    def was_sent(self) -> npt.NDArray[np.bool_]:
        """Whether each pushed sample went out on some connection."""
        return self._times_sent() > 0

    def sent_again_s(self) -> float:
        """Seconds of the speaker's audio that went out more than once."""
        counts = self._times_sent()
        return float(np.maximum(counts - 1, 0).sum() / SAMPLE_RATE)

    def fed_silence_s(self) -> float:
        """Seconds of silence that was sent and is not the speaker's."""
        return sum(int((positions(f) < 0).sum()) for _, f in self.sent) / SAMPLE_RATE

    def frames_sent_s(self) -> float:
        return len(self.sent) * FRAME_S

    def _times_sent(self) -> npt.NDArray[np.int64]:
        counts = np.zeros(sum(n for _, n, _ in self._pieces), dtype=np.int64)
        for _, frame in self.sent:
            found = positions(frame)
            counts[found[found >= 0]] += 1
        return counts
