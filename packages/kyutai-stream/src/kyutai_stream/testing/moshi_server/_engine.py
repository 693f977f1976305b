# SPDX-License-Identifier: MIT
"""The server without its sockets: slots, the model loop and its queues.

It never awaits and reads no clock: `tick(now)` does what is due, `deadline()` says
when to call it again, messages are collected from each channel's `outbox`.

One turn of the loop takes at most ONE message from the queue of each slot. Where
that completes 1 920 samples the slot is active; if any slot is, the whole batch
makes a step, which lasts `step_s`, and only then its messages go out. Without an
active slot the loop pauses for 2 ms and the server's step counter stands still.

Source:
    `rust/moshi-server/src/batched_asr.rs` (0.6.4), `pre_process`, `post_process`
    and `start_model_loop`; `py_basr_module.rs` for `PyBatchedAsr`.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import numpy as np
from attrs import define, field

from ._channel import Channel, Samples
from ._stream import WordStream
from ._wire import Audio, Inbound, Init, Marker, OggOpus, Ready, Step
from .options import FRAME_SAMPLES, ConnectionPlan, Model, Recogniser

__all__ = ["Engine"]


@define(order=True)
class _DueMarker:
    step: int
    order: int
    id: int = field(order=False)
    channel: Channel = field(order=False)


@define
class _Turn:
    """A step under way."""

    ends: float
    frames: list[tuple[Channel, Samples]]
    present: list[Channel]


class Engine:
    """The batch and its loop.

    Args:
        model: The configuration.
        listen: Makes a recogniser for each stream.
        step_s: Seconds of one step; 0 for as fast as possible.
        idle_turn_s: Seconds between turns without a step.
    """

    def __init__(
        self,
        model: Model,
        listen: Callable[[], Recogniser],
        *,
        step_s: float,
        idle_turn_s: float = 0.002,
    ) -> None:
        self.model = model
        self.step_s = step_s
        """May change at any time; a step under way keeps its length."""
        self.stalled = False
        """The loop makes no turns; nothing is lost."""
        self.dead = False
        """The loop has ended by an error: no turn ever again, slots stay taken."""
        self.total_steps = 0
        """Steps since the loop began, without the warm-up."""
        self._listen = listen
        self._idle_turn_s = idle_turn_s
        self._slots: list[Channel | None] = [None] * model.batch_size
        self._markers: list[_DueMarker] = []
        self._marker_count = 0
        self._turn: _Turn | None = None
        self._next_turn: float | None = None

    @property
    def channels(self) -> list[Channel]:
        """The taken slots' channels."""
        return [channel for channel in self._slots if channel is not None]

    @property
    def used_slots(self) -> int:
        """How many slots are taken."""
        return len(self.channels)

    # Receive: what comes from the sockets

    def connect(self, number: int, plan: ConnectionPlan, now: float) -> Channel | None:
        """Take a slot; returns None if all are taken."""
        if None not in self._slots:
            return None
        slot = self._slots.index(None)

        def new_stream(reset: bool) -> WordStream:
            return WordStream(
                self.model, plan, self._listen, self._shuffle(number, reset)
            )

        serve_from = now + plan.ready_delay_s
        channel = Channel(number, slot, plan, serve_from, new_stream)
        self._slots[slot] = channel
        self._wake(serve_from)
        return channel

    def receive(self, channel: Channel, message: Inbound, now: float) -> None:
        """Queue a client's message; call `tick` when `deadline` says so."""
        channel.inbox.append(message)
        self._wake(now)

    def end_input(self, channel: Channel, now: float) -> None:
        """The client's side has ended, cleanly or not."""
        channel.input_ended = True
        self._wake(now)

    def break_output(self, channel: Channel, now: float) -> None:
        """Nothing can be sent any more."""
        channel.input_ended = channel.output_broken = True
        self._wake(now)

    def resume(self, now: float) -> None:
        """End a stall."""
        self.stalled = False
        self._wake(now)

    def _wake(self, now: float) -> None:
        if self._turn is not None:
            return
        # A turn may be due much later, for a stream that is to be served late.
        soon = now + self._idle_turn_s
        self._next_turn = (
            soon if self._next_turn is None else min(soon, self._next_turn)
        )

    def _shuffle(self, number: int, reset: bool) -> random.Random | None:
        redecoding = self.model.redecoding
        if redecoding is None or (number < redecoding.exact_connections and not reset):
            return None
        return random.Random(f"{redecoding.seed}/{number}/{reset}")

    # Time

    def deadline(self) -> float | None:
        """When to call `tick`; None while there is nothing to do."""
        if self._turn is not None:
            return self._turn.ends
        if self.dead or self.stalled:
            return None
        return self._next_turn

    def tick(self, now: float) -> bool:
        """Do what is due; returns whether messages may be waiting in outboxes.

        At most one step per call, so that the caller stays in control when steps
        take no time.
        """
        if self._turn is not None:
            if now < self._turn.ends:
                return False
            self._finish_step(self._turn)
            self._turn = None
            self._next_turn = now
            return True
        if self.dead or self.stalled or self._next_turn is None:
            return False
        if now < self._next_turn:
            return False
        self._next_turn = None
        worked, frames = self._begin_turn(now)
        if frames:
            present = [c for c in self.channels if self._is_served(c, now)]
            self._turn = _Turn(ends=now + self.step_s, frames=frames, present=present)
        elif worked or self._has_work(now):
            self._next_turn = now + self._idle_turn_s
        else:
            self._next_turn = self._later(now)
        return worked

    def _has_work(self, now: float) -> bool:
        return any(
            channel.inbox or channel.input_ended or channel.buffered >= FRAME_SAMPLES
            for channel in self.channels
            if self._is_served(channel, now)
        )

    def _later(self, now: float) -> float | None:
        times = [c.serve_from for c in self.channels if c.serve_from > now]
        return min(times, default=None)

    def _given_up(self, channel: Channel, now: float) -> bool:
        # A stream that is not served yet still gives its slot back in the end.
        return channel.input_ended and not self._is_served(channel, now)

    @staticmethod
    def _is_served(channel: Channel, now: float) -> bool:
        return not channel.plan.wedged and channel.serve_from <= now

    # One turn

    def _begin_turn(self, now: float) -> tuple[bool, list[tuple[Channel, Samples]]]:
        """One message from each slot; returns (anything done, active frames)."""
        worked = False
        frames = []
        for channel in self.channels:
            if channel.output_broken or self._given_up(channel, now):
                self._free(channel)
                worked = True
                continue
            if not self._is_served(channel, now):
                continue
            if channel.inbox:
                worked = True
                frame = self._take(channel, channel.inbox.popleft())
            elif channel.input_ended:
                self._free(channel)
                worked = True
                continue
            else:
                # An empty queue still drains what a long message left over.
                frame = channel.take_audio(np.zeros(0, dtype=np.float32))
            if frame is None:
                frame = channel.own_silence()
            if frame is not None:
                frames.append((channel, frame))
        return worked, frames

    def _take(self, channel: Channel, message: Inbound) -> Samples | None:
        match message:
            case Init():
                channel.send(Ready())
                channel.reset()
            case Audio():
                return channel.take_audio(message.pcm)
            case Marker():
                self._keep_marker(channel, message.id)
            case OggOpus():
                # The real server decodes at most one frame from it, past the
                # buffer; the fake has no decoder and ignores it.
                pass
        return None

    def _keep_marker(self, channel: Channel, marker: int) -> None:
        frames = channel.buffered // FRAME_SAMPLES
        due = self.total_steps + self.model.delay_steps + frames
        self._marker_count += 1
        heapq.heappush(
            self._markers,
            _DueMarker(step=due, order=self._marker_count, id=marker, channel=channel),
        )
        if self.model.module == "PyBatchedAsr":
            channel.feed_silence(frames + self.model.delay_steps + 1)

    def _free(self, channel: Channel) -> None:
        channel.freed = True
        self._slots[channel.slot] = None

    def _finish_step(self, turn: _Turn) -> None:
        python = self.model.module == "PyBatchedAsr"
        step_idx = self.total_steps
        self.total_steps += 1
        if not python:
            # The other module counts from 0 and has no warm-up of that kind.
            step_idx += self.model.warm_up_steps + 1
        active = [(c, frame) for c, frame in turn.frames if not c.freed]
        said = []
        for channel, frame in active:
            channel.steps += 1
            said.append((channel, channel.words.advance(frame)))
        if not python and self.model.pause_heads:
            self._send_steps([channel for channel, _ in active], step_idx)
        for channel, messages in said:
            for message in messages:
                channel.send(message)
        if python:
            self._send_steps(turn.present, step_idx)
        # Source: `py_basr_module.rs` compares before it counts the step.
        self._send_markers(step_idx if python else self.total_steps)

    def _send_steps(self, channels: list[Channel], step_idx: int) -> None:
        for channel in channels:
            channel.send(
                Step(
                    step_idx=step_idx,
                    prs=channel.words.pauses(),
                    buffered_pcm=channel.buffered,
                )
            )

    def _send_markers(self, step: int) -> None:
        while self._markers and self._markers[0].step <= step:
            due = heapq.heappop(self._markers)
            due.channel.send(Marker(id=due.id))
            if self.model.module == "PyBatchedAsr" and not due.channel.freed:
                # This module takes a Marker for the end of the stream.
                self._free(due.channel)
