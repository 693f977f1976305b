# SPDX-License-Identifier: MIT
"""The plain HTTP pages beside the stream, on the same port.

Source:
    `rust/moshi-server/src/main.rs` and `metrics.rs` (0.6.4): no credentials needed;
    all values of `modules_info` are strings.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from http import HTTPStatus

from attrs import define, field
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Response

from .options import Model

__all__ = ["BUILD_INFO", "Metrics", "as_page", "modules_info"]

BUILD_INFO = json.dumps(
    {
        "build_timestamp": "2026-01-01T00:00:00.000000000Z",
        "git_branch": "fake",
        "git_hash": "0000000000000000000000000000000000000000",
        "git_describe": "kyutai-stream FakeMoshiServer",
        "rustc_version": "none",
        "cargo_target_triple": "none",
    }
)

STEP_BUCKETS_S = (0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08)
LENGTH_BUCKETS = (2, 25, 125, 250, 500, 750, 1125, 1500, 2250, 3000, 4500)


def modules_info(model: Model, path: str, used_slots: int) -> str:
    """The body of `/api/modules_info`."""
    python = model.module == "PyBatchedAsr"
    module = {
        "type": "py_batched_asr" if python else "batched_asr",
        "path": path,
        "lm": "fake.safetensors",
        "audio_tokenizer": "tones",
        "used_slots": str(used_slots),
        "total_slots": str(model.batch_size),
    }
    return json.dumps([module])


@define
class _Histogram:
    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str) -> list[str]:
        out, below = [f"# TYPE {name} histogram"], 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            below += count
            out.append(f'{name}_bucket{{le="{bound}"}} {below}')
        return [*out, f"{name}_sum {self.total:g}", f"{name}_count {below}"]


@define
class Metrics:
    """The counters of `/metrics`, in Prometheus' text format."""

    connects: int = 0
    """Streams asked for, refused ones included."""
    step_durations: _Histogram = field(factory=lambda: _Histogram(STEP_BUCKETS_S))
    """Seconds of each step."""
    lengths: _Histogram = field(factory=lambda: _Histogram(LENGTH_BUCKETS))
    """Steps of each ended connection."""

    def text(self, open_channels: int) -> str:
        """The body of `/metrics`."""
        lines = [
            "# TYPE asr_connect counter",
            f'asr_connect{{handler="all"}} {self.connects}',
            "# TYPE asr_open_channels gauge",
            f'asr_open_channels{{handler="all"}} {open_channels}',
            *self.step_durations.lines("asr_model_step_duration"),
            *self.lengths.lines("asr_connection_num_steps"),
        ]
        return "\n".join(lines) + "\n"


def as_page(socket: ServerConnection, kind: str, body: str) -> Response:
    """A page as the answer to a request: its content type and its body."""
    response = socket.respond(HTTPStatus.OK, body)
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = kind
    return response
