# SPDX-License-Identifier: MIT
"""One connection of the fake server: its two halves, its faults, what it kept."""

from __future__ import annotations

import math

import anyio
import numpy as np
import numpy.typing as npt
from attrs import define, field, frozen
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame

from .._endings import NO_CODE
from ._channel import Channel
from ._limits import Limits
from ._path import Path, WatchedConnection
from ._seat import Seat
from ._wire import Audio, BadMessage, Error, Init, Marker, Ready, Step, Word
from ._wire import decode as decode_message
from ._wire import encode as encode_message
from .options import ConnectionPlan

__all__ = ["FakeConnection", "SentWord"]

GARBAGE = b"\xc1\xff\x00 this is no MessagePack"
UNKNOWN = b"\x82\xa4type\xa9Surprise!\xa4what\x01"


@frozen(kw_only=True)
class SentWord:
    """A `Word` that went out."""

    text: str = field(repr=False)
    """As sent."""
    start: float
    """Seconds of the stream since its last reset."""
    at_step: int
    """Frames of the connection that were processed by then."""


@define(eq=False)
class FakeConnection:
    """What one client did, and the handle for doing something to it.

    Kept after the end, in `FakeMoshiServer.connections`.
    """

    number: int
    """Counts the server's connections, from 0."""
    plan: ConnectionPlan = field(repr=False)
    """What was to happen on it."""
    _socket: WatchedConnection = field(repr=False)
    _seat: Seat = field(repr=False)
    _limits: Limits = field(repr=False)
    _keep_audio: bool = field(repr=False)
    slot: int | None = field(default=None, init=False)
    """The slot it got; None if there was none."""
    frames: int = field(default=0, init=False)
    """`Audio` messages with samples that came in."""
    samples: int = field(default=0, init=False)
    """Samples that came in."""
    keepalives: int = field(default=0, init=False)
    """Empty `Audio` messages."""
    resets: int = field(default=0, init=False)
    """`Init` messages."""
    markers: list[int] = field(factory=list, init=False)
    """Ids of the `Marker` messages, in order."""
    bad_messages: int = field(default=0, init=False)
    """Binary messages that could not be read."""
    steps: int = field(default=0, init=False)
    """Frames processed."""
    words: list[SentWord] = field(factory=list, init=False)
    """Words sent (put on the wire; a cut may still have lost them)."""
    ready: bool = field(default=False, init=False)
    """Whether Ready was sent."""
    end: str | None = field(default=None, init=False)
    """Why it ended, for people; None while it is open."""
    close_code: int | None = field(default=None, init=False)
    """Code of the client's Close frame, if one came."""
    _path: Path = field(repr=False, init=False)
    _audio: list[npt.NDArray[np.float32]] = field(factory=list, repr=False, init=False)
    _injected: list[bytes | str] = field(factory=list, repr=False, init=False)
    _outgoing: anyio.Event = field(factory=anyio.Event, repr=False, init=False)
    _watch_anew: anyio.Event = field(factory=anyio.Event, repr=False, init=False)
    _ended: anyio.Event = field(factory=anyio.Event, repr=False, init=False)
    _lost_while_half_open: bool = field(default=False, repr=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._path = Path(self._socket)
        self._socket.on_frame = self._frame_came

    @property
    def audio(self) -> npt.NDArray[np.float32]:
        """All samples that came in: mono PCM, float32, shape `(n,)`, 24 000 Hz.

        Raises:
            RuntimeError: If the server does not keep them (`keep_audio=True`).
        """
        if not self._keep_audio:
            raise RuntimeError("audio is only kept with keep_audio=True")
        if not self._audio:
            return np.zeros(0, dtype=np.float32)
        return np.concatenate(self._audio)

    @property
    def open(self) -> bool:
        """Whether the socket is still there."""
        return self.end is None

    # What can be done to it, at any time

    def cut(self, reason: str = "cut") -> None:
        """Abort the TCP connection: the client sees a reset, no Close frame."""
        self._finish(reason)
        self._path.abort()

    def drop(self, reason: str) -> None:
        """Let the server's receiving half end: freed, then closed without a Close."""
        if self._path.half_open:
            self._lost_while_half_open = True
        elif self.end is None:
            self.end = reason
        if self._seat.taken:
            self._seat.end_input()
        else:
            self._ended.set()

    def half_open(self, for_s: float | None = None) -> None:
        """Go silent, as if the network had swallowed the way there and back.

        Args:
            for_s: Seconds until `heal` happens by itself.
        """
        self._path.swallow(for_s)
        self._watch_anew.set()

    def heal(self) -> None:
        """End `half_open`; if the server gave the client up meanwhile, it is cut."""
        if not self._path.half_open:
            return
        if self._lost_while_half_open:
            self.cut("given up while half-open")
        else:
            self.resume_reading()
        self._path.restore()

    def stop_reading(self) -> None:
        """Read nothing any more; the client's buffers fill."""
        self._path.stop_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._path.resume_reading()

    def inject(self, data: bytes | str = GARBAGE) -> None:
        """Send something between the server's messages: bytes as binary, or text."""
        self._injected.append(data)
        self._outgoing.set()

    def deafen(self) -> None:
        """Let the model hear no words until the next reset."""
        self._seat.deafen()

    async def close(self, code: int = 1000) -> None:
        """Close with this code; 1005 for a Close frame without a code."""
        self._finish(f"closed with {code}")
        await self._path.close(code)

    # The server's side

    async def run(self) -> None:
        """Serve it until it ends."""
        if self.plan.close_at_once is not None:
            await self.close(self.plan.close_at_once)
            return
        if self.plan.full or not self._seat.take(self.number, self.plan):
            await self._refuse()
            return
        self.slot = self._seat.channel.slot
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read)
            tasks.start_soon(self._write)
            tasks.start_soon(self._watch)
            await self._ended.wait()
            tasks.cancel_scope.cancel()

    async def _refuse(self) -> None:
        await self._socket.send(encode_message(Error(message="no free channels")))
        await self.close(NO_CODE)
        with anyio.move_on_after(self._limits.silent_s):
            await self._socket.wait_closed()

    def _frame_came(self, frame: Frame) -> bool:
        """Note any frame; returns False if it must not be looked at any more."""
        if self.end is not None:
            return True
        if not self._limits.frame(frame.opcode, anyio.current_time()):
            self.drop("no binary message for too long")
            return False
        return True

    async def _read(self) -> None:
        try:
            async for data in self._socket:
                if self.end is not None:
                    break
                if isinstance(data, bytes):
                    self._take(data)
        except ConnectionClosed:
            pass
        self.close_code = self._path.close_code
        if self.end is None:
            if self.close_code is None:
                self.end = "lost"
                self._seat.break_output()
            else:
                self.end = "closed by the client"
                self._seat.end_input()

    def _take(self, data: bytes) -> None:
        try:
            message = decode_message(data)
        except BadMessage:
            self.bad_messages += 1
            self.drop("bad message")
            return
        match message:
            case Audio() if len(message.pcm):
                self.frames += 1
                self.samples += len(message.pcm)
                if self._keep_audio:
                    self._audio.append(message.pcm)
                self._faults_at(self.frames)
                if self.end is not None:
                    return
            case Audio():
                self.keepalives += 1
            case Init():
                self.resets += 1
            case Marker():
                self.markers.append(message.id)
        self._seat.receive(message)

    def _faults_at(self, frames: int) -> None:
        plan = self.plan
        if plan.deaf_after_frames == frames:
            self.deafen()
        if plan.garbage_after_frames == frames:
            self.inject(GARBAGE)
        if plan.unknown_after_frames == frames:
            self.inject(UNKNOWN)
        if plan.text_after_frames == frames:
            self.inject('{"type":"Ready"}')
        if plan.stop_reading_after_frames == frames:
            self.stop_reading()
        if plan.half_open_after_frames == frames:
            self.half_open(plan.half_open_s)
        if plan.cut_after_frames == frames:
            self.cut(f"cut after {frames} frames")

    def deliver(self) -> None:
        """Wake the writing half: the engine may have said something."""
        if self._seat.has_output:
            self._outgoing.set()

    async def _write(self) -> None:
        channel = self._seat.channel
        try:
            while not (channel.freed and not channel.outbox):
                await self._write_some(channel)
        except ConnectionClosed:
            pass
        if self.end is None:
            self.end = "stream ended by the server" if channel.freed else "lost"
        self._seat.break_output()
        await self._path.wait_clear()
        await self._path.let_go()
        self._ended.set()

    async def _write_some(self, channel: Channel) -> None:
        with anyio.move_on_after(self._limits.ping_s) as quiet:
            await self._outgoing.wait()
        await self._path.wait_clear()
        if quiet.cancelled_caught:
            await self._socket.ping()
            return
        self._outgoing = anyio.Event()
        while self._injected:
            await self._socket.send(self._injected.pop(0))
        while channel.outbox:
            message = channel.outbox.popleft()
            await self._path.wait_clear()
            await self._socket.send(encode_message(message))
            self._sent(message)

    def _sent(self, message: object) -> None:
        match message:
            case Ready() if not self.ready:
                self.ready = True
                self._faults_at(0)
            case Step():
                self._steps_done()
            case Word():
                word = SentWord(
                    text=message.text, start=message.start_time, at_step=self.steps
                )
                self.words.append(word)

    def _steps_done(self) -> None:
        self.steps = self._seat.channel.steps
        cut = self.plan.cut_after_steps
        if cut is not None and self.steps >= cut:
            self.cut(f"cut after {self.steps} steps")

    async def _watch(self) -> None:
        """The short limit, and the end of being half-open."""
        given_up = False
        while True:
            due = math.inf if given_up else self._limits.silent_at
            with anyio.CancelScope(deadline=min(due, self._path.heal_at)):
                await self._watch_anew.wait()
                self._watch_anew = anyio.Event()
                continue
            now = anyio.current_time()
            if now >= self._path.heal_at:
                self.heal()
            elif now >= self._limits.silent_at:
                given_up = True
                self.drop("silent for too long")

    def _finish(self, reason: str) -> None:
        if self.end is None:
            self.end = reason
        self._path.restore()
        self._seat.break_output()
        self._ended.set()
