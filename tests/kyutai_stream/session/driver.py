"""A session machine, driven by hand: its shell, its speaker and its clock."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import define, field

from kyutai_stream import (
    Capabilities,
    SessionOptions,
)
from kyutai_stream.backend import (
    ConnectionEvent,
    Ready,
    WasReset,
)
from kyutai_stream.core import FRAME_SAMPLES, SAMPLE_RATE
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

from .recogniser import Recogniser, Said, Samples, loud, positions, soft
from .records import Audio, Shown

KYUTAI = Capabilities(acks=True, resettable=True, nominal_delay_s=0.48)
PIECE_S = 0.02


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
    shown: Shown = field(factory=Shown)
    audio: Audio = field(factory=Audio)
    fulfilled: dict[int, float] = field(factory=dict)
    connections: list[Recogniser] = field(factory=list)
    left: list[Leaving] = field(factory=list)
    failures: list[str] = field(factory=list)
    attempts: list[float] = field(factory=list)
    asked: list[str] = field(factory=list)
    """Names of the actions but sending and waiting."""
    over: bool = False
    gave_up: bool = False
    machine: SessionMachine = field(init=False)
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
            self.audio.pushed(piece, self.next_media)
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
                self.audio.sent.append((self.now, frame))
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
        self.shown.add(self.machine.events(), self.now)
        for mark_id in self.machine.intake.fulfilled():
            self.fulfilled[mark_id] = self.now

    # -- what came of it -------------------------------------------------------------

    @property
    def said(self) -> str:
        return " ".join(word.text for word in self.words)

    def first_sent(self, connection: int) -> int:
        """Number of the first sample of the speaker that a connection was sent."""
        for frame in self.connections[connection].frames:
            found = positions(frame)
            if (found >= 0).any():
                return int(found[found >= 0][0])
        raise AssertionError("it was sent nothing")

    def in_gaps(self) -> npt.NDArray[np.bool_]:
        """Whether each sample lies in a gap."""
        return self.audio.within(self.shown.gaps)

    def require_whole(self) -> None:
        """Every word once, at its time, and no gap."""
        assert self.shown.gaps == []
        assert self.shown.text == self.said
        found = [word for final in self.shown.finals for word in final.words]
        for word, said in zip(found, self.words, strict=True):
            assert abs(word.start - said.media) < 0.001
            assert word.end is not None
            length = (said.end - said.begin) / SAMPLE_RATE
            assert abs(word.end - said.media - length) < 0.001
