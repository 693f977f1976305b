"""A session machine, driven by hand: its shell, its recogniser and its clock.

Every sample tells its number, so that what was sent can be compared with what was
pushed, sample by sample. The recogniser hears perfectly: it says a word once all its
samples came without a break and as much further audio as its delay asks for.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from attrs import define, field, frozen

from kyutai_stream import (
    Capabilities,
    Final,
    Gap,
    Partial,
    SessionEvent,
    SessionOptions,
    StateChanged,
    Usage,
)
from kyutai_stream.backend import (
    ConnectionEvent,
    Flushed,
    Progress,
    Ready,
    WasReset,
    Word,
    WordEnd,
)
from kyutai_stream.core import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE
from kyutai_stream.errors import ConnectionLost
from kyutai_stream.session._actions import (
    AskFlush,
    AskKeepalive,
    AskReset,
    Fail,
    Leave,
    Leaving,
    Send,
    Wait,
)
from kyutai_stream.session._machine import SessionMachine

Samples = npt.NDArray[np.float32]

KYUTAI = Capabilities(acks=True, resettable=True, nominal_delay_s=0.48)
PIECE_S = 0.02
LOUD = 0.25


def loud(first: int, count: int) -> Samples:
    """Sound whose samples tell their numbers; -10 dBFS."""
    return (LOUD + np.arange(first, first + count) / 2**25).astype(np.float32)


def soft(first: int, count: int) -> Samples:
    """Quiet, likewise; below -66 dBFS."""
    return (np.arange(first + 1, first + count + 1) / 2**35).astype(np.float32)


def positions(frame: Samples) -> npt.NDArray[np.int64]:
    """The numbers of samples; -1 for silence that the session fed."""
    exact = frame.astype(np.float64)
    found = np.where(exact >= LOUD, (exact - LOUD) * 2**25, exact * 2**35 - 1)
    return np.rint(found).astype(np.int64)


@frozen(kw_only=True)
class Said:
    """A word in the audio."""

    text: str
    begin: int
    """Number of its first sample."""
    end: int
    media: float
    """Media seconds of the first sample."""


@define
class _Run:
    stream: int
    first: int
    length: int


@define(eq=False)
class Recogniser:
    """One connection's other side."""

    capabilities: Capabilities
    words: list[Said]
    deaf: bool = False
    """Counts frames and says nothing."""
    frames: list[Samples] = field(factory=list)
    waiting: list[Samples | AskFlush] = field(factory=list)
    _stream: int = 0
    _run: _Run | None = None
    _due: list[tuple[int, Word, WordEnd]] = field(factory=list)
    _index: int = 0

    def reset(self) -> None:
        self._stream = self._index = 0
        self._run = None
        self._due.clear()
        self.waiting.clear()

    def take(self) -> list[ConnectionEvent]:
        """Work on the next thing that was sent."""
        head = self.waiting.pop(0)
        if isinstance(head, AskFlush):
            said = self._say(math.inf) if self.capabilities.self_flushing else []
            return [*said, Flushed(token=head.token)]
        self._listen(head)
        self._stream += FRAME_SAMPLES
        said = self._say(self._stream)
        if self.capabilities.acks:
            frames = self._stream // FRAME_SAMPLES
            said.append(Progress(frames_processed=frames, lag_frames=len(self.waiting)))
        return said

    def _say(self, until: float) -> list[ConnectionEvent]:
        said: list[ConnectionEvent] = []
        while self._due and self._due[0][0] <= until:
            _, word, end = self._due.pop(0)
            if not self.deaf:
                said += [word, end]
        return said

    def _listen(self, frame: Samples) -> None:
        found = positions(frame)
        breaks = np.flatnonzero(np.diff(found) != 1) + 1
        at = 0
        for part in np.split(found, breaks):
            if part[0] >= 0:
                self._extend(self._stream + at, int(part[0]), len(part))
            at += len(part)

    def _extend(self, stream: int, first: int, length: int) -> None:
        run = self._run
        if run is None or (stream, first) != (
            run.stream + run.length,
            run.first + run.length,
        ):
            run = self._run = _Run(stream, first, 0)
        before, run.length = run.first + run.length, run.length + length
        after = run.first + run.length
        for word in self.words:
            if before < word.end <= after and run.first <= word.begin:
                self._heard(word, run)

    def _heard(self, word: Said, run: _Run) -> None:
        start, end = (
            (run.stream + at - run.first) / SAMPLE_RATE for at in (word.begin, word.end)
        )
        ripe = round((end + self.capabilities.nominal_delay_s) * SAMPLE_RATE)
        said = Word(index=self._index, text=word.text, start=start)
        self._due.append((ripe, said, WordEnd(index=self._index, end=end)))
        self._index += 1


@define(eq=False)
class Driver:
    """Speaks, and lets time pass."""

    options: SessionOptions = field(factory=SessionOptions)
    capabilities: Capabilities = KYUTAI
    language: str | None = None
    up: bool = True
    """Whether attempts to connect succeed."""
    starts_in_s: float = 0.0
    """How long they take."""
    error: Exception = field(factory=lambda: ConnectionLost("down"))
    """Why they do not."""
    frozen: bool = False
    """Whether the recogniser has stopped to work on what it is sent."""
    deaf: bool = False
    """Whether the next connections and resets hear nothing."""
    resets: bool = True
    """Whether a reset is confirmed."""
    reads: bool = True
    """Whether anybody listens to the machine's actions; False: nothing is sent."""
    try_push: bool = True
    """Whether the oldest audio is given up when there is too much."""

    now: float = 100.0
    words: list[Said] = field(factory=list)
    pushed: int = 0
    """Samples so far."""
    next_media: float = 0.0
    events: list[SessionEvent] = field(factory=list)
    times: list[float] = field(factory=list)
    fulfilled: dict[int, float] = field(factory=dict)
    connections: list[Recogniser] = field(factory=list)
    sent: list[tuple[float, Samples]] = field(factory=list)
    left: list[Leaving] = field(factory=list)
    failures: list[str] = field(factory=list)
    attempts: list[float] = field(factory=list)
    asked: list[str] = field(factory=list)
    """Names of the actions but sending and waiting."""
    over: bool = False
    gave_up: bool = False
    machine: SessionMachine = field(init=False)
    _pieces: list[tuple[float, int, bool]] = field(factory=list)
    _current: Recogniser | None = None
    _ready_at: float | None = None

    def __attrs_post_init__(self) -> None:
        self.machine = SessionMachine("test", self.options, self.language, self.now)

    # -- the speaker ---------------------------------------------------------------

    def say(
        self, text: str, *, word_s: float = 0.3, gap_s: float = 0.2, live: bool = True
    ) -> None:
        """Speak words, each followed by quiet."""
        for word in text.split():
            begin = self.pushed
            count = round(word_s * SAMPLE_RATE)
            self.words.append(
                Said(text=word, begin=begin, end=begin + count, media=self.next_media)
            )
            self.push(loud(begin, count), live=live)
            self.quiet(gap_s, live=live)

    def quiet(self, seconds: float, *, live: bool = True) -> None:
        """Push quiet audio."""
        count = round(seconds * SAMPLE_RATE)
        self.push(soft(self.pushed, count), live=live)

    def noise(self, seconds: float, *, live: bool = True) -> None:
        """Push sound that is no word."""
        count = round(seconds * SAMPLE_RATE)
        self.push(loud(self.pushed, count), live=live)

    def jump(self, seconds: float) -> None:
        """Let the caller's clock go on without audio."""
        self.next_media += seconds

    def push(self, samples: Samples, *, live: bool = True) -> None:
        """Push in pieces, at the pace of the clock unless not `live`."""
        step = round(PIECE_S * SAMPLE_RATE)
        assert self.pushed + len(samples) < 2**23, "too long to be numbered"
        for begin in range(0, len(samples), step):
            piece = samples[begin : begin + step]
            if self.try_push:
                self.machine.intake.make_room(len(piece) / SAMPLE_RATE)
            self.machine.intake.admit(piece, self.next_media, 0.0, self.now)
            self._pieces.append((self.next_media, len(piece), bool(piece[0] >= LOUD)))
            self.pushed += len(piece)
            self.next_media += len(piece) / SAMPLE_RATE
            if live:
                self.wait(len(piece) / SAMPLE_RATE)

    def end(self, within_s: float = 60.0) -> None:
        """End the input and wait for the session to be over."""
        self.machine.intake.end_input(self.now)
        deadline = self.now + within_s
        while not self.over and self.now < deadline:
            self.wait(PIECE_S)
        self.close()

    def close(self) -> None:
        """Close the books, if that has not been done."""
        self.over = True
        self.machine.end(self.now)
        self._collect()

    # -- time ------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let time pass, in steps of at most 20 ms."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + PIECE_S)
            self._turn()

    def lose(self, error: Exception | None = None) -> None:
        """Cut the connection."""
        self._lost(error or ConnectionLost("cut"))

    def receive(self, event: ConnectionEvent) -> None:
        """Let the recogniser say something else."""
        self.machine.receive(event, self.now)
        self._collect()

    def _turn(self) -> None:
        for _ in range(10_000):
            if self.over or not (self._connect() or self._act() or self._work()):
                self._collect()
                return
        raise AssertionError("the machine never rests")

    def _connect(self) -> bool:
        if self._current is not None or self.gave_up:
            return False
        if self._ready_at is not None:
            return self._finish_connecting()
        due = self.machine.connect_due(self.now)
        if due is None:
            self.over = True
            return False
        if due > self.now:
            return False
        self.machine.connecting()
        self.attempts.append(self.now)
        self._ready_at = self.now + self.starts_in_s
        return True

    def _finish_connecting(self) -> bool:
        assert self._ready_at is not None
        if self.now < self._ready_at - 1e-9:
            return False
        self._ready_at = None
        if not self.up:
            self._lost(self.error)
            return True
        self._current = Recogniser(self.capabilities, self.words, deaf=self.deaf)
        self.connections.append(self._current)
        self.machine.receive(Ready(capabilities=self.capabilities), self.now)
        return True

    def _act(self) -> bool:
        """Do what the machine wants; False if it wants to wait."""
        current = self._current
        if current is None or not self.reads:
            return False
        action = self.machine.next_action(self.now)
        match action:
            case Wait(until=until):
                assert until > self.now, "waiting for the past is no rest"
                return False
            case Send(frame=frame):
                assert frame.shape == (FRAME_SAMPLES,) and frame.dtype == np.float32
                current.waiting.append(frame)
                current.frames.append(frame)
                self.sent.append((self.now, frame))
                self.machine.sent(self.now)
            case AskFlush():
                current.waiting.append(action)
            case AskReset():
                current.reset()
                current.deaf = self.deaf
                if self.resets:
                    self.machine.receive(WasReset(), self.now)
            case AskKeepalive():
                self.machine.kept_alive(self.now)
            case Leave(why=why):
                self.left.append(why)
                self._current = None
                self.machine.left(why, self.now)
                self.over = why is Leaving.FINISHED
            case Fail(reason=reason):
                self.failures.append(reason)
                self._lost(ConnectionLost(reason))
        if not isinstance(action, Send):
            self.asked.append(type(action).__name__)
        return True

    def _work(self) -> bool:
        current = self._current
        if current is None or self.frozen or not current.waiting:
            return False
        for event in current.take():
            self.machine.receive(event, self.now)
        return True

    def _lost(self, error: Exception) -> None:
        self._current = None
        self.gave_up = not self.machine.lost(error, 0.5, self.now)
        self._collect()

    def _collect(self) -> None:
        fresh = self.machine.events()
        self.events += fresh
        self.times += [self.now] * len(fresh)
        for mark_id in self.machine.intake.fulfilled():
            self.fulfilled[mark_id] = self.now

    # -- what came of it -------------------------------------------------------------

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

    @property
    def said(self) -> str:
        return " ".join(word.text for word in self.words)

    def final_at(self, number: int = -1) -> float:
        """When a final came, on the driver's clock."""
        finals = [i for i, e in enumerate(self.events) if isinstance(e, Final)]
        return self.times[finals[number]]

    def fed_silence_s(self) -> float:
        """Seconds of silence that was sent and is not the speaker's."""
        return sum(int((positions(f) < 0).sum()) for _, f in self.sent) / SAMPLE_RATE

    def frames_sent_s(self) -> float:
        return len(self.sent) * FRAME_S

    @property
    def media(self) -> npt.NDArray[np.float64]:
        """Media seconds of every sample."""
        parts = [start + np.arange(n) / SAMPLE_RATE for start, n, _ in self._pieces]
        return np.concatenate([np.zeros(0), *parts])

    @property
    def sounding(self) -> npt.NDArray[np.bool_]:
        """Whether each sample is loud."""
        parts = [np.full(n, is_loud) for _, n, is_loud in self._pieces]
        return np.concatenate([np.zeros(0, dtype=np.bool_), *parts])

    def sent_again_s(self) -> float:
        """Seconds of the speaker's audio that went out more than once."""
        counts = np.zeros(self.pushed, dtype=np.int64)
        for _, frame in self.sent:
            found = positions(frame)
            counts[found[found >= 0]] += 1
        return float(np.maximum(counts - 1, 0).sum() / SAMPLE_RATE)

    def first_sent(self, connection: int) -> int:
        """Number of the first sample of the speaker that a connection was sent."""
        for frame in self.connections[connection].frames:
            found = positions(frame)
            if (found >= 0).any():
                return int(found[found >= 0][0])
        raise AssertionError("it was sent nothing")

    def was_sent(self) -> npt.NDArray[np.bool_]:
        """Whether each sample went out on some connection."""
        mask = np.zeros(self.pushed, dtype=np.bool_)
        for _, frame in self.sent:
            found = positions(frame)
            mask[found[found >= 0]] = True
        return mask

    def in_gaps(self) -> npt.NDArray[np.bool_]:
        """Whether each sample lies in a gap."""
        media = self.media
        mask = np.zeros(len(media), dtype=np.bool_)
        half = 0.5 / SAMPLE_RATE
        for gap in self.gaps:
            mask |= (media >= gap.start - half) & (media < gap.end - half)
        return mask

    def require_whole(self) -> None:
        """Every word once, at its time, and no gap."""
        assert self.gaps == []
        assert self.text == self.said
        found = [word for final in self.finals for word in final.words]
        for word, said in zip(found, self.words, strict=True):
            assert abs(word.start - said.media) < 0.001
            assert word.end is not None
            length = (said.end - said.begin) / SAMPLE_RATE
            assert abs(word.end - said.media - length) < 0.001
