# SPDX-License-Identifier: MIT
"""One connection of the fake server: its two halves, its faults, what it kept."""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio
import numpy as np
import numpy.typing as npt
from attrs import frozen
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import DATA_OPCODES, Frame, Opcode

from ._channel import Channel
from ._engine import Engine
from ._wire import Audio, BadMessage, Error, Init, Marker, Ready, Step, Word
from ._wire import decode as decode_message
from ._wire import encode as encode_message
from .options import ConnectionPlan

__all__ = ["FakeConnection", "SentWord"]

NO_CODE = 1005
NO_CLOSE = 1006
LINGER_S = 1.0
GARBAGE = b"\xc1\xff\x00 this is no MessagePack"
UNKNOWN = b"\x82\xa4type\xa9Surprise!\xa4what\x01"


@frozen(kw_only=True)
class SentWord:
    """A `Word` that went out."""

    text: str
    """As sent."""
    start: float
    """Seconds of the stream since its last reset."""
    at_step: int
    """Frames of the connection that were processed by then."""


class WatchedConnection(ServerConnection):
    """A websockets connection that tells of every frame, control frames included."""

    fake: FakeConnection | None = None
    plan: ConnectionPlan = ConnectionPlan()

    def process_event(self, event: object) -> None:
        """See frames before the library answers pings and closes."""
        if isinstance(event, Frame) and self.fake is not None:
            if not self.fake.frame_came(event):
                return
        super().process_event(event)  # type: ignore[arg-type]  # its Event alias


class FakeConnection:
    """What one client did, and the handle for doing something to it.

    Kept after the end, in `FakeMoshiServer.connections`.

    Args:
        number: Counts the connections from 0.
        plan: Its faults.
        socket: The websocket.
        engine: The server's engine; another one after a restart.
        changed: Called when the engine may have something to do.
        keep_audio: Whether to keep all samples.
        timers: Ping, silence and binary limits in seconds.
    """

    def __init__(
        self,
        number: int,
        plan: ConnectionPlan,
        socket: WatchedConnection,
        engine: Engine,
        changed: Callable[[], None],
        *,
        keep_audio: bool,
        timers: tuple[float, float, float],
    ) -> None:
        self.number = number
        """Counts the server's connections, from 0."""
        self.plan = plan
        """What was to happen on it."""
        self.slot: int | None = None
        """The slot it got; None if there was none."""
        self.frames = 0
        """`Audio` messages with samples that came in."""
        self.samples = 0
        """Samples that came in."""
        self.keepalives = 0
        """Empty `Audio` messages."""
        self.resets = 0
        """`Init` messages."""
        self.markers: list[int] = []
        """Ids of the `Marker` messages, in order."""
        self.bad_messages = 0
        """Binary messages that could not be read."""
        self.steps = 0
        """Frames processed."""
        self.words: list[SentWord] = []
        """Words sent (put on the wire; a cut may still have lost them)."""
        self.ready = False
        """Whether Ready was sent."""
        self.end: str | None = None
        """Why it ended, for people; None while it is open."""
        self.close_code: int | None = None
        """Code of the client's Close frame, if one came."""
        self._socket = socket
        self._engine = engine
        self._changed = changed
        self._channel: Channel | None = None
        self._audio: list[npt.NDArray[np.float32]] | None = [] if keep_audio else None
        self._ping_s, self._silent_s, self._binary_s = timers
        now = anyio.current_time()
        self._last_frame = now
        self._last_binary = now
        self._open_gate = anyio.Event()
        self._open_gate.set()
        self._outgoing = anyio.Event()
        self._ended = anyio.Event()
        self._half_open = False
        self._lost_while_half_open = False
        self._heal_at: float | None = None
        self._injected: list[bytes | str] = []
        self._watch_anew = anyio.Event()
        socket.fake = self

    @property
    def audio(self) -> npt.NDArray[np.float32]:
        """All samples that came in: mono PCM, float32, shape `(n,)`, 24 000 Hz.

        Raises:
            RuntimeError: If the server does not keep them (`keep_audio=True`).
        """
        if self._audio is None:
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
        self._socket.transport.abort()

    def drop(self, reason: str) -> None:
        """Let the server's receiving half end: freed, then closed without a Close."""
        if self._half_open:
            self._lost_while_half_open = True
        elif self.end is None:
            self.end = reason
        if self._channel is not None:
            self._engine.end_input(self._channel, anyio.current_time())
            self._changed()
        else:
            self._ended.set()

    def half_open(self, for_s: float | None = None) -> None:
        """Go silent, as if the network had swallowed the way there and back.

        Args:
            for_s: Seconds until `heal` happens by itself.
        """
        self._half_open = True
        self._open_gate = anyio.Event()
        self._heal_at = None if for_s is None else anyio.current_time() + for_s
        self._watch_anew.set()
        self.stop_reading()

    def heal(self) -> None:
        """End `half_open`; if the server gave the client up meanwhile, it is cut."""
        if not self._half_open:
            return
        self._half_open = False
        self._heal_at = None
        if self._lost_while_half_open:
            self.cut("given up while half-open")
        else:
            self.resume_reading()
        self._open_gate.set()

    def stop_reading(self) -> None:
        """Read nothing any more; the client's buffers fill."""
        self._socket.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._socket.transport.is_closing():
            self._socket.transport.resume_reading()

    def inject(self, data: bytes | str = GARBAGE) -> None:
        """Send something between the server's messages: bytes as binary, or text."""
        self._injected.append(data)
        self._outgoing.set()

    def deafen(self) -> None:
        """Let the model hear no words until the next reset."""
        if self._channel is not None:
            self._channel.words.deaf = True

    async def close(self, code: int = 1000) -> None:
        """Close with this code; 1005 for a Close frame without a code."""
        self._finish(f"closed with {code}")
        if code == NO_CLOSE:
            self._socket.transport.abort()
        elif code == NO_CODE:
            self._socket.protocol.send_close()
            self._socket.send_data()
        else:
            await self._socket.close(code)

    # The server's side

    async def run(self) -> None:
        """Serve it until it ends."""
        if self.plan.close_at_once is not None:
            await self.close(self.plan.close_at_once)
            return
        now = anyio.current_time()
        if not self.plan.full:
            self._channel = self._engine.connect(self.number, self.plan, now)
        if self._channel is None:
            await self._refuse()
            return
        self.slot = self._channel.slot
        self._changed()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read)
            tasks.start_soon(self._write)
            tasks.start_soon(self._watch)
            await self._ended.wait()
            tasks.cancel_scope.cancel()

    async def _refuse(self) -> None:
        await self._socket.send(encode_message(Error(message="no free channels")))
        await self.close(NO_CODE)
        with anyio.move_on_after(self._silent_s):
            await self._socket.wait_closed()

    def frame_came(self, frame: Frame) -> bool:
        """Note any frame; returns False if it must not be looked at any more."""
        if self.end is not None:
            return True
        now = anyio.current_time()
        self._last_frame = now
        # Source: `recv_loop` looks at the long limit before the message itself.
        if now - self._last_binary > self._binary_s:
            self.drop("no binary message for too long")
            return False
        if frame.opcode is Opcode.BINARY or (
            frame.opcode in DATA_OPCODES and frame.opcode is not Opcode.TEXT
        ):
            self._last_binary = now
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
        received = self._socket.protocol.close_rcvd
        self.close_code = None if received is None else received.code
        if self.end is None:
            self.end = "closed by the client" if received else "lost"
            if self._channel is not None:
                now = anyio.current_time()
                if received:
                    self._engine.end_input(self._channel, now)
                else:
                    self._engine.break_output(self._channel, now)
                self._changed()

    def _take(self, data: bytes) -> None:
        channel = self._channel
        if channel is None:
            raise AssertionError("only a served connection is read")
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
                if self._audio is not None:
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
        before = self._engine.deadline()
        self._engine.receive(channel, message, anyio.current_time())
        if self._engine.deadline() != before:
            self._changed()

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
        channel = self._channel
        if channel is not None and (channel.outbox or channel.freed):
            self._outgoing.set()

    async def _write(self) -> None:
        channel = self._channel
        if channel is None:
            raise AssertionError("only a served connection is written to")
        try:
            while not (channel.freed and not channel.outbox):
                await self._write_some(channel)
        except ConnectionClosed:
            pass
        now = anyio.current_time()
        if self.end is None:
            self.end = "stream ended by the server" if channel.freed else "lost"
        self._engine.break_output(channel, now)
        self._changed()
        await self._open_gate.wait()
        # No Close frame: the real server just lets go of the socket.
        self._socket.transport.close()
        with anyio.move_on_after(LINGER_S):
            await self._socket.wait_closed()
        self._socket.transport.abort()
        self._ended.set()

    async def _write_some(self, channel: Channel) -> None:
        with anyio.move_on_after(self._ping_s) as quiet:
            await self._outgoing.wait()
        await self._open_gate.wait()
        if quiet.cancelled_caught:
            await self._socket.ping()
            return
        self._outgoing = anyio.Event()
        while self._injected:
            await self._socket.send(self._injected.pop(0))
        while channel.outbox:
            message = channel.outbox.popleft()
            await self._open_gate.wait()
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
        if self._channel is not None:
            self.steps = self._channel.steps
        cut = self.plan.cut_after_steps
        if cut is not None and self.steps >= cut:
            self.cut(f"cut after {self.steps} steps")

    async def _watch(self) -> None:
        """The short limit, and the end of being half-open."""
        given_up = False
        while True:
            due = math.inf if given_up else self._last_frame + self._silent_s
            heal_at = math.inf if self._heal_at is None else self._heal_at
            with anyio.CancelScope(deadline=min(due, heal_at)):
                await self._watch_anew.wait()
                self._watch_anew = anyio.Event()
                continue
            now = anyio.current_time()
            if now >= heal_at:
                self.heal()
            elif now >= self._last_frame + self._silent_s:
                given_up = True
                self.drop("silent for too long")

    def _finish(self, reason: str) -> None:
        if self.end is None:
            self.end = reason
        self._half_open = False
        self._open_gate.set()
        if self._channel is not None:
            self._engine.break_output(self._channel, anyio.current_time())
            self._changed()
        self._ended.set()
