# SPDX-License-Identifier: MIT
"""The thread that runs the model, and the places in its batch.

One thread, not a process: torch gives up the interpreter's lock while it computes.
Measured with a 5 ms ticker on the event loop (2 shared cores): while the model of
1B shape ran in a thread the ticker was late by 0.7 ms (mean), 7 ms (p99), 15 ms
(worst); with the model in a process of its own by 0.4, 4 and 29 ms. With the loop
30 % busy the model itself ran as fast in a thread as in a process. Only `import
torch` held everything up, once, by 270 ms; `LocalBackend.load` can do that early.
A thread leaves the model in memory when the last speaker has gone; a process would
have to load it again.

The thread lives as long as somebody holds a place. Both sides meet in `Slot`, under
one lock that is never held while the model computes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np

from ...backend import ConnectionEvent, Frame, Ready
from ...core import FRAME_SAMPLES
from ...errors import CapacityError, ConnectionLost, KyutaiStreamError
from ._slot import OUTBOX_EVENTS, Flush, Mask, Recogniser, Reset, Slot

__all__ = ["Engine"]

logger = logging.getLogger(__name__)


class Engine:
    """Loads a model once and runs it for up to `slots` speakers at a time.

    Args:
        load: Builds the model; runs in the thread. Its errors are for people.
        slots: Places in the batch.
    """

    def __init__(self, load: Callable[[], Recogniser], slots: int) -> None:
        self._load = load
        self._slots: list[Slot | None] = [None] * slots
        self._leaving: list[Slot] = []
        self._changed = threading.Condition()
        self._model: Recogniser | None = None
        self._thread: threading.Thread | None = None

    # -- called by event loops: short waits for the lock, never for the model ----------

    def claim(
        self, wake: Callable[[], None], welcome: Callable[[Recogniser], Ready]
    ) -> Slot:
        """Take a place; `Ready` comes when the thread has prepared it.

        Raises:
            CapacityError: If all places are taken.
        """
        with self._changed:
            if None not in self._slots:
                raise CapacityError(
                    f"all {len(self._slots)} places of the local model are taken"
                )
            slot = Slot(self._slots.index(None), wake, welcome)
            self._slots[slot.number] = slot
            # The thread goes on: nobody needs to wait for its end.
            self._let_leave(None)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="kyutai-stream-local", daemon=True
                )
                self._thread.start()
            self._changed.notify()
            return slot

    def release(self, slot: Slot) -> None:
        """Give the place back; it is free at once, whatever the model is doing.

        The last one has `leaving` set until the thread has ended for it. Not while
        the model is being loaded, which takes long and cannot be interrupted.
        """
        with self._changed:
            if self._slots[slot.number] is slot:
                self._slots[slot.number] = None
                if self._model is not None and not any(self._slots):
                    slot.leaving = True
                    self._leaving.append(slot)
            self._changed.notify()

    def is_leaving(self, slot: Slot) -> bool:
        """Whether the thread has yet to end for this last one."""
        with self._changed:
            return slot.leaving

    def offer(self, slot: Slot, item: Frame | Flush | Reset) -> bool:
        """Put something in the inbox; False if it is full.

        Raises:
            KyutaiStreamError: If the model has failed.
        """
        with self._changed:
            if slot.failure is not None:
                raise slot.failure
            taken = slot.put(item)
            self._changed.notify()
            return taken

    def take(self, slot: Slot) -> ConnectionEvent | None:
        """Take the oldest event; None if there is none yet.

        Raises:
            KyutaiStreamError: If the model has failed and all events are taken.
        """
        with self._changed:
            if not slot.outbox:
                if slot.failure is not None:
                    raise slot.failure
                return None
            if len(slot.outbox) == OUTBOX_EVENTS:
                # Room again: the model need not leave this speaker out any more.
                self._changed.notify()
            return slot.outbox.popleft()

    # -- the thread ----------------------------------------------------------------

    def _run(self) -> None:
        try:
            model = self._model or self._load()
            with self._changed:
                self._model = model
            self._serve(model)
        except KyutaiStreamError as exc:
            self._fail(exc)
        except Exception as exc:
            # Whatever the model raised; its state is unknown, so it is loaded anew.
            logger.warning("the local model failed: %s", type(exc).__name__)
            self._fail(ConnectionLost(f"the local model failed: {exc}"))

    def _serve(self, model: Recogniser) -> None:
        count = len(self._slots)
        audio = np.zeros((count, FRAME_SAMPLES), dtype=np.float32)
        while (turn := self._turn(model)) is not None:
            frames, resets = turn
            if resets:
                model.reset(_mask(resets, count))
            for slot, frame in frames:
                audio[slot.number] = frame
            output = None
            if frames:
                output = model.step(audio, _mask([slot for slot, _ in frames], count))
            with self._changed:
                for slot, _ in frames:
                    if output is not None:
                        slot.deliver(model, output)
                for held in self._slots:
                    if held is not None:
                        held.wake()

    def _turn(
        self, model: Recogniser
    ) -> tuple[list[tuple[Slot, Frame]], list[Slot]] | None:
        """Wait for work: frames to hear and places to reset; None to end."""
        with self._changed:
            while not (waiting := [s for s in self._slots if s and s.has_work]):
                if not any(self._slots):
                    self._thread = None
                    self._let_leave(threading.current_thread())
                    return None
                self._changed.wait()
            frames, resets = [], []
            for slot in waiting:
                frame, begun = slot.advance(model)
                if begun:
                    resets.append(slot)
                if frame is not None:
                    frames.append((slot, frame))
            return frames, resets

    def _let_leave(self, ended: threading.Thread | None) -> None:
        for slot in self._leaving:
            slot.leaving = False
            slot.ended = ended
            slot.wake()
        self._leaving.clear()

    def _fail(self, error: KyutaiStreamError) -> None:
        with self._changed:
            self._model = None
            self._thread = None
            self._let_leave(threading.current_thread())
            for number, slot in enumerate(self._slots):
                self._slots[number] = None
                if slot is not None:
                    slot.failure = error
                    slot.wake()


def _mask(slots: list[Slot], count: int) -> Mask:
    mask = np.zeros(count, dtype=np.bool_)
    mask[[slot.number for slot in slots]] = True
    return mask
