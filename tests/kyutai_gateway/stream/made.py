"""A machine that is ready, what it wants done, what it says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from kyutai_gateway.stream import StreamMachine, StreamRules
from kyutai_stream import Capabilities
from kyutai_stream.backend import Pause, Progress, Ready

ABLE = Capabilities(
    languages=("en",),
    acks=True,
    resettable=True,
    nominal_delay_s=0.48,
    pause_horizons_s=(0.5, 1.0, 2.0, 3.0),
    keepalive_interval_s=50.0,
)
FRAME = bytes(7680)


def machine(able: Capabilities = ABLE, ready: bool = True, **rules: Any) -> Any:
    one = StreamMachine(StreamRules(**rules), model="m", capabilities=able, now=0.0)
    if ready:
        one.event(Ready(capabilities=able), 0.0)
        one.outbox.clear()
    return one


def told(one: Any) -> list[dict[str, Any]]:
    texts = [json.loads(text) for text in one.outbox]
    one.outbox.clear()
    return texts


def actions(one: Any, now: float = 0.0) -> list[Any]:
    taken = []
    while (action := one.next_action(now)) is not None:
        taken.append("frame" if isinstance(action, np.ndarray) else action)
    return taken


def step(one: Any, count: int, now: float, head: float = 0.0) -> None:
    one.event(Progress(frames_processed=count, lag_frames=0), now)
    pause = Pause(probabilities=(0, 0, head, 0), horizons_s=ABLE.pause_horizons_s)
    one.event(pause, now)
