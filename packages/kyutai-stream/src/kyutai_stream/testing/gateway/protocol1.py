# SPDX-License-Identifier: MIT
"""Protocol 1, the dialect of our own gateway (decisions.md), whole."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import numpy as np

from ...core import FRAME_SAMPLES, SAMPLE_RATE
from .dialect import Dialect
from .model import ModelEnd, ModelWord, horizons
from .options import DialectOptions, JsonObject, Output, floats, say
from .pump import Mark, Stepped

__all__ = ["PauseRule", "Protocol1"]

END_OF_STREAM = b"EOS"

# Close codes of decisions.md; None: the stream goes on. It gives none for
# `bad_audio`: samples that are no numbers end the stream with 1003 (unsupported
# data), left-over bytes at an end that comes anyway do not.
CLOSE_CODES = {
    "capacity": 1013,
    "draining": 1012,
    "idle_timeout": 1000,
    "internal": 1011,
    "upstream_lost": 1011,
    "upstream_wedged": 1011,
}

STALE_WORDS = 3


class PauseRule:
    """When the gateway says `vad_end`: once for each pause after words.

    Mean of two steps of the 2 s head above 0.6 for two steps, after a word, not
    within the first 12 steps of the stream (modal-serving.md, 6.5).
    """

    HEAD = 2
    THRESHOLD = 0.6
    STEPS = 2
    FIRST_STEPS = 12

    def __init__(self) -> None:
        self._steps = 0
        self._last = 0.0
        self._above = 0
        self._armed = False

    def word(self) -> None:
        """A word came: the next pause counts."""
        self._armed = True
        self._above = 0

    def step(self, prs: tuple[float, ...]) -> bool:
        """Take the heads of a step; True where a pause is to be reported."""
        if len(prs) <= self.HEAD:
            return False
        self._steps += 1
        smooth = (self._last + prs[self.HEAD]) / 2
        self._last = prs[self.HEAD]
        self._above = self._above + 1 if smooth > self.THRESHOLD else 0
        if not self._armed or self._steps <= self.FIRST_STEPS:
            return False
        if self._above < self.STEPS:
            return False
        self._armed = False
        return True


class Protocol1(Dialect):
    """One connection in protocol 1."""

    waits_for_ready = True

    def __init__(self, options: DialectOptions, now: float) -> None:
        super().__init__(options, now)
        self._carry = b""
        # A model without pause heads sends no steps.
        self._acks = bool(options.model.pause_heads)
        self._pause = PauseRule()
        self._ending = False
        self._draining = False
        self._recent: deque[JsonObject] = deque(maxlen=STALE_WORDS)

    def on_ready(self) -> list[Output]:
        """Say what can be counted on."""
        ready = {
            "type": "ready",
            "protocol": 1,
            "model": "fake",
            "sample_rate": SAMPLE_RATE,
            "frame_samples": FRAME_SAMPLES,
            "delay_ms": self.options.model.delay_steps * 80,
            "languages": ["en", "fr"],
            "acks": self._acks,
            "pause_horizons_s": list(horizons(self.options.model)),
        }
        return [say(ready)]

    def on_binary(self, data: bytes, now: float) -> list[Output]:
        """Take audio of any length; empty keeps alive, `EOS` is an `eos`."""
        if self._ending or not data:
            return []
        if data == END_OF_STREAM:
            return self._eos()
        data = self._carry + data
        whole = len(data) - len(data) % 4
        self._carry = data[whole:]
        samples = floats(data[:whole])
        if not np.isfinite(samples).all():
            error = self._error("bad_audio", "samples are no finite numbers")
            return [error, self.close(1003, "bad_audio")]
        self.pump.push(samples)
        return []

    def on_text(self, text: str, now: float) -> list[Output]:
        """Take a control message; anything else is `bad_control`."""
        if self._ending:
            return []
        control = _control(text)
        match control:
            case {"type": "flush"}:
                self.pump.flush(self.options.flush_frames)
                self.pump.mark(Mark(kind="flush", id=control.get("id")))
            case {"type": "reset"}:
                self.pump.drop_partial()
                self.pump.mark(Mark(kind="reset", id=control.get("id")))
            case {"type": "eos"}:
                return self._eos()
            case _:
                return [self._error("bad_control", "not a control message")]
        return []

    def on_step(self, stepped: Stepped, now: float) -> list[Output]:
        """Acknowledge, then words, then the pause: never the pause first."""
        outputs = []
        if self._acks:
            ack = {
                "type": "ack",
                "epoch": self.pump.epoch,
                "samples": self.pump.clock.client,
                "lag": self.pump.lag,
                "prs": list(stepped.step.prs),
            }
            outputs.append(say(ack))
        for word in stepped.step.words:
            outputs.append(self._word(word))
        if self._acks and self._pause.step(stepped.step.prs):
            outputs.append(say(self._vad_end()))
        return outputs

    def on_mark(self, mark: Mark, now: float) -> list[Output]:
        """Everything before a control message was processed."""
        if mark.kind == "flush":
            return [self._confirm("flushed", mark)]
        if mark.kind == "reset":
            self._pause = PauseRule()
            self.pump.reset()
            return [self._confirm("was_reset", mark)]
        if mark.kind == "drained":
            return self.fail("draining")
        return [say({"type": "end"}), self.close(1000, "finished")]

    def fail(self, code: str) -> list[Output]:
        """Send the error before the close: intermediaries may lose the code."""
        closing = self.close(CLOSE_CODES.get(code, 1011), code)
        return [self._error(code, f"as planned by the test: {code}"), closing]

    def drain(self, seconds: float, now: float) -> list[Output]:
        """Announce the end; words still inside come out before it."""
        self._draining = True
        super().drain(seconds, now)
        return [say({"type": "draining", "deadline_s": round(seconds, 3)})]

    def expire(self, now: float) -> list[Output]:
        """Flush and close 1012; a model that stands still is not waited for."""
        if self.pump.stopped:
            return self.fail("draining")
        self._ending = True
        self.pump.flush(self.options.flush_frames)
        self.pump.mark(Mark(kind="drained"))
        return []

    def die(self, now: float) -> list[Output]:
        """Rotate: the platform ends a connection at its time limit."""
        return self.drain(self.options.timers.drain_s, now)

    def stale(self) -> list[Output]:
        """Repeat the last words as if from the epoch before."""
        stale = [dict(word, epoch=self.pump.epoch - 1) for word in self._recent]
        return [say(word) for word in stale]

    def _eos(self) -> list[Output]:
        self._ending = True
        outputs: list[Output] = []
        if self._carry:
            outputs.append(self._error("bad_audio", "bytes of a split sample are left"))
        self.pump.flush(self.options.flush_frames)
        self.pump.mark(Mark(kind="end"))
        return outputs

    def _word(self, word: ModelWord | ModelEnd) -> Output:
        numbers = {"epoch": self.pump.epoch, "index": word.index}
        if isinstance(word, ModelEnd):
            end = self.pump.clock.client_s(word.end)
            return say({"type": "word_end", **numbers, "end": end})
        self._pause.word()
        token = {
            "type": "token",
            "text": f" {word.text}",
            "final": False,
            "vad_end": False,
            **numbers,
            "start": self.pump.clock.client_s(word.start),
        }
        self._recent.append(token)
        return say(token)

    def _vad_end(self) -> JsonObject:
        at = self.pump.clock.client / SAMPLE_RATE
        triple = {"text": "", "final": True, "vad_end": True}
        return {
            "type": "vad_end",
            **triple,
            "epoch": self.pump.epoch,
            "at": round(at, 4),
        }

    def _confirm(self, kind: str, mark: Mark) -> Output:
        return say({"type": kind, "id": mark.id, "epoch": self.pump.epoch})

    def _error(self, code: str, message: str) -> Output:
        retryable = code != "bad_audio"
        error = {"type": "error", "code": code, "message": message}
        return say({**error, "retryable": retryable})


def _control(text: str) -> dict[str, Any]:
    """Read a control message; an empty one where it is none."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(message, dict):
        return {}
    number = message.get("id")
    # bool is an int to Python and none to JSON.
    good = number is None or (isinstance(number, int) and not isinstance(number, bool))
    return message if good else {}
