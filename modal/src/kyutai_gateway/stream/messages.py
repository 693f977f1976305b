# SPDX-License-Identifier: MIT
"""The text messages of protocol 1 (decisions.md), both ways.

Messages to the client are put together as strings: one `ack` for each frame of each
client makes `json.dumps` of a dictionary worth avoiding. Text from the model goes
through `json.dumps` always.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from attrs import frozen

from kyutai_stream import Capabilities
from kyutai_stream.core import FRAME_SAMPLES, SAMPLE_RATE

__all__ = [
    "CLOSE_CODES",
    "END",
    "PING",
    "Code",
    "Control",
    "ack",
    "draining",
    "error",
    "flushed",
    "parse_control",
    "ready",
    "token",
    "vad_end",
    "was_reset",
    "word_end",
]

Code = Literal[
    "bad_audio",
    "bad_control",
    "capacity",
    "draining",
    "idle_timeout",
    "internal",
    "upstream_lost",
    "upstream_wedged",
]
"""Error codes of protocol 1."""

CLOSE_CODES: dict[Code, int] = {
    "bad_audio": 1003,
    "capacity": 1013,
    "draining": 1012,
    "idle_timeout": 1000,
    "internal": 1011,
    "upstream_lost": 1011,
    "upstream_wedged": 1011,
}
"""How a stream is closed that ends with an error. decisions.md gives none for
`bad_audio`: 1003 is "unsupported data"."""

PING = '{"type":"ping"}'
END = '{"type":"end"}'

LONGEST_CONTROL = 4096
"""Characters; an honest control message has fewer than 60."""


@frozen(kw_only=True)
class Control:
    """A control message of the client."""

    kind: Literal["flush", "reset", "eos"]
    """What it asks for."""
    id: int | None = None
    """The client's number for it, told back when it is done."""


def parse_control(text: str) -> Control | None:
    """Read a control message; None where it is none."""
    if len(text) > LONGEST_CONTROL:
        return None
    try:
        message: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    kind, number = message.get("type"), message.get("id")
    if kind not in ("flush", "reset", "eos"):
        return None
    if number is not None and type(number) is not int:
        return None
    if number is not None and not -(2**63) <= number < 2**63:
        return None
    return Control(kind=kind, id=number)


def ready(model: str, capabilities: Capabilities) -> str:
    """What the client can count on."""
    return json.dumps(
        {
            "type": "ready",
            "protocol": 1,
            "model": model,
            "sample_rate": SAMPLE_RATE,
            "frame_samples": FRAME_SAMPLES,
            "delay_ms": round(capabilities.nominal_delay_s * 1000),
            "languages": list(capabilities.languages),
            "acks": capabilities.acks,
            "pause_horizons_s": list(capabilities.pause_horizons_s),
        }
    )


def token(epoch: int, index: int, text: str, start: float) -> str:
    """A word, with one leading space."""
    return (
        f'{{"type":"token","text":{json.dumps(" " + text)},"final":false,'
        f'"vad_end":false,"epoch":{epoch},"index":{index},"start":{start:.3f}}}'
    )


def word_end(epoch: int, index: int, end: float) -> str:
    """Where a word ended."""
    return f'{{"type":"word_end","epoch":{epoch},"index":{index},"end":{end:.3f}}}'


def vad_end(epoch: int, at: float) -> str:
    """The speaker paused."""
    return (
        '{"type":"vad_end","text":"","final":true,"vad_end":true,'
        f'"epoch":{epoch},"at":{at:.3f}}}'
    )


def ack(epoch: int, samples: int, lag: int, probabilities: tuple[float, ...]) -> str:
    """How far the model is."""
    prs = ",".join(["%.3f"] * len(probabilities)) % probabilities
    return (
        f'{{"type":"ack","epoch":{epoch},"samples":{samples},'
        f'"lag":{lag},"prs":[{prs}]}}'
    )


def flushed(number: int | None, epoch: int) -> str:
    """A flush is done."""
    return f'{{"type":"flushed","id":{_id(number)},"epoch":{epoch}}}'


def was_reset(number: int | None, epoch: int) -> str:
    """A reset is done; this epoch begins."""
    return f'{{"type":"was_reset","id":{_id(number)},"epoch":{epoch}}}'


def draining(deadline_s: float) -> str:
    """The gateway will close in so many seconds."""
    return f'{{"type":"draining","deadline_s":{deadline_s:.3f}}}'


def error(code: Code, message: str, *, retryable: bool) -> str:
    """Something went wrong; but for `bad_control` and a split sample a close follows.

    Args:
        code: Which kind.
        message: For people; a constant text, never speech.
        retryable: Whether the same may work later.
    """
    return json.dumps(
        {"type": "error", "code": code, "message": message, "retryable": retryable}
    )


def _id(number: int | None) -> str:
    return "null" if number is None else str(number)
