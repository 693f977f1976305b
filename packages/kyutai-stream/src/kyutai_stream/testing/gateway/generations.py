# SPDX-License-Identifier: MIT
"""The older dialects of `/v1/stream`, as their servers behaved.

Three generations of codemyriad/kyutai_modal share the path, and the project
document describes a fourth shape that none of them sends (kyutai-stt.md, 2.1;
gen 1 and gen 3 read from their sources, gen 2 from its description).
"""

from __future__ import annotations

import numpy as np

from ...core import SAMPLE_RATE
from .dialect import Dialect
from .incidents import Abort
from .model import ModelWord
from .options import DialectOptions, JsonObject, Output, Timers, floats, say
from .protocol1 import PauseRule, Protocol1
from .pump import Mark, Stepped

__all__ = ["DEFAULT_TIMERS", "DIALECTS", "Document", "Gen1", "Gen2", "Gen3"]

CHUNK_SAMPLES = 2 * SAMPLE_RATE
MINIMUM_SAMPLES = SAMPLE_RATE
UPSTREAM_IDLE_S = 120.0
PAUSE_THRESHOLD = 0.5


class Gen1(Dialect):
    """Transformers: PCM16, text by chunks of 2 s, `EOS`, `{"status"}`.

    Every message holds the text of its own chunk (it does not grow). At `EOS` a
    rest shorter than a second is dropped without a word, as the original did.
    """

    def __init__(self, options: DialectOptions, now: float) -> None:
        super().__init__(options, now)
        self._unsent: list[str] = []
        self._held = 0

    def on_binary(self, data: bytes, now: float) -> list[Output]:
        """Take PCM16; an odd or empty message is an error, the stream goes on."""
        if data == b"EOS":
            if self._held >= MINIMUM_SAMPLES:
                self.pump.flush(self.options.flush_frames)
            self.pump.mark(Mark(kind="end"))
            return []
        if not data or len(data) % 2:
            return [say({"error": "Invalid audio format (must be PCM16)"})]
        pcm = np.frombuffer(data, dtype="<i2").astype(np.float32)
        self.pump.push(pcm * np.float32(1 / 32768))
        self._held += len(data) // 2
        if self._held >= CHUNK_SAMPLES:
            # Each chunk is transcribed by itself, without waiting for the next.
            self._held = 0
            self.pump.flush(self.options.flush_frames)
            self.pump.mark(Mark(kind="chunk"))
        return []

    def on_text(self, text: str, now: float) -> list[Output]:
        """Die of it: the original knew binary messages only."""
        return [self.close(1011)]

    def on_step(self, stepped: Stepped, now: float) -> list[Output]:
        """Keep the words until their chunk is whole."""
        words = stepped.step.words
        self._unsent += [word.text for word in words if isinstance(word, ModelWord)]
        return []

    def on_mark(self, mark: Mark, now: float) -> list[Output]:
        """Tell the text of the chunk; finish at the end."""
        final = mark.kind == "end"
        outputs: list[Output] = []
        if self._unsent and not (final and self._held < MINIMUM_SAMPLES):
            text = " ".join(self._unsent)
            self._unsent.clear()
            outputs.append(say({"text": text, "final": final}))
        if final:
            outputs += [say({"status": "complete"}), self.close(1000)]
        return outputs

    def fail(self, code: str) -> list[Output]:
        """Say `error` and close 1000, whatever it was."""
        return [say({"error": code}), self.close(1000)]

    def unknown(self) -> list[JsonObject]:
        """Messages nobody knows yet."""
        return [{"status": "levitating"}, {"text": "", "final": False, "x": 1}]


class Gen2(Dialect):
    """PyTorch: float32, sub-word pieces, `vad_end` on every quiet step."""

    def on_binary(self, data: bytes, now: float) -> list[Output]:
        """Take float32 samples; a split one is an error."""
        if len(data) % 4:
            return self.fail("audio is not float32")
        self.pump.push(floats(data))
        return []

    def on_text(self, text: str, now: float) -> list[Output]:
        """Die of it: the original knew binary messages only."""
        return [self.close(1011)]

    def on_step(self, stepped: Stepped, now: float) -> list[Output]:
        """Tell the pieces, and the pause again and again."""
        pieces = stepped.step.pieces
        outputs = [say({"type": "token", "text": piece}) for piece in pieces]
        if any(pr > PAUSE_THRESHOLD for pr in stepped.step.prs[PauseRule.HEAD :][:1]):
            outputs.append(say({"type": "vad_end"}))
        return outputs

    def fail(self, code: str) -> list[Output]:
        """Say `error` and close 1000, whatever it was."""
        return [say({"type": "error", "message": code}), self.close(1000)]

    def idle(self) -> list[Output]:
        """Close without a word."""
        return [self.close(1000)]


class Gen3(Dialect):
    """Rust proxy, the deployed one: words only, always close 1000.

    A length that is no multiple of 4 (so also `EOS`) or a text message kills the
    stream. The tail shorter than a frame never reaches the model, and nothing is
    flushed at the end. Empty messages reset the idle timer of 30 s and are not
    forwarded; after 120 s without a frame the model's server drops the stream,
    which is noticed with the next frame only, as is a refusal (`full`).
    """

    def __init__(self, options: DialectOptions, now: float) -> None:
        super().__init__(options, now)
        self._upstream_lost = False
        self._forwarded = now

    def on_binary(self, data: bytes, now: float) -> list[Output]:
        """Take float32 samples."""
        if len(data) % 4:
            return [self.close(1000)]
        before = self.pump.frames
        self.pump.push(floats(data))
        if self.pump.frames > before:
            limit = UPSTREAM_IDLE_S * self.options.scale
            if self._upstream_lost or now >= self._forwarded + limit:
                return [self.close(1000)]
            self._forwarded = now
        return []

    def on_text(self, text: str, now: float) -> list[Output]:
        """Die of it."""
        return [self.close(1000)]

    def on_step(self, stepped: Stepped, now: float) -> list[Output]:
        """Tell the words, empty ones left out."""
        words = () if self._upstream_lost else stepped.step.words
        texts = [word.text for word in words if isinstance(word, ModelWord)]
        space = " " if self.options.leading_space else ""
        return [
            say({"type": "token", "text": (space if t[0].isalnum() else "") + t})
            for t in texts
            if t
        ]

    def fail(self, code: str) -> list[Output]:
        """Close 1000; a lost model is noticed with the next frame."""
        if code in ("upstream_lost", "capacity"):
            self._upstream_lost = True
            return []
        return [self.close(1000)]

    def ping(self) -> list[Output]:
        """Never sent, whatever its README promised."""
        return []

    def die(self, now: float) -> list[Output]:
        """The platform's time limit: no close frame leaves the container."""
        self.closed = True
        return [Abort()]


class Document(Protocol1):
    """The shape of the project document: bare `text`, `final`, `vad_end`.

    Nothing else is sent; audio is taken as in protocol 1.
    """

    waits_for_ready = False

    def __init__(self, options: DialectOptions, now: float) -> None:
        super().__init__(options, now)
        self._rule = PauseRule()

    def on_ready(self) -> list[Output]:
        """Say nothing."""
        return []

    def on_text(self, text: str, now: float) -> list[Output]:
        """Ignore it: the document knows no control messages."""
        return []

    def on_step(self, stepped: Stepped, now: float) -> list[Output]:
        """Tell words, then the pause."""
        outputs = []
        for word in stepped.step.words:
            if isinstance(word, ModelWord):
                self._rule.word()
                outputs.append(self._triple(word.text, pause=False))
        if self._rule.step(stepped.step.prs):
            outputs.append(self._triple("", pause=True))
        return outputs

    def on_mark(self, mark: Mark, now: float) -> list[Output]:
        """Close when the end was reached."""
        return [self.close(1012 if mark.kind == "drained" else 1000)]

    def fail(self, code: str) -> list[Output]:
        """Close with the code that protocol 1 uses, without a message."""
        return super().fail(code)[1:]

    def drain(self, seconds: float, now: float) -> list[Output]:
        """Close later, unannounced."""
        return super().drain(seconds, now)[1:]

    def ping(self) -> list[Output]:
        """Never sent."""
        return []

    def unknown(self) -> list[JsonObject]:
        """A field nobody knows yet."""
        return [{"text": "", "final": False, "vad_end": False, "x": 1}]

    def stale(self) -> list[Output]:
        """There are no epochs."""
        return []

    def _triple(self, text: str, *, pause: bool) -> Output:
        return say({"text": text, "final": pause, "vad_end": pause})


DIALECTS: dict[str, type[Dialect]] = {
    "protocol1": Protocol1,
    "gen1": Gen1,
    "gen2": Gen2,
    "gen3": Gen3,
    "document": Document,
}

DEFAULT_TIMERS = {
    "protocol1": Timers(ping_s=10.0, idle_s=30.0, life_s=4 * 3600.0 - 60.0),
    "gen1": Timers(life_s=600.0),
    "gen2": Timers(ping_s=10.0, idle_s=10.0, life_s=600.0),
    "gen3": Timers(idle_s=30.0, life_s=1800.0),
    "document": Timers(idle_s=30.0),
}
"""Timers as in the reference; protocol 1's idle limit and life are a choice."""
