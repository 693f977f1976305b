# SPDX-License-Identifier: MIT
"""What the gateway's HTTP pages say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Protocol

import anyio

from kyutai_stream.core import SAMPLE_RATE

from . import http
from .http import Answer
from .metrics import Metrics, Sample
from .stream import StreamRules
from .streams import Streams
from .upstream import Upstream, UpstreamState

__all__ = ["PAGES", "Status"]


class Status(Protocol):
    """What the pages tell about (`Gateway` has it)."""

    metrics: Metrics
    """What happened since the start."""
    streams: Streams
    """Those that are open."""
    draining: bool
    """Whether new streams are refused."""

    @property
    def unready(self) -> str:
        """Why a new stream would not be served; empty if it would."""

    @property
    def upstream(self) -> Upstream:
        """The model server."""

    @property
    def rules(self) -> StreamRules:
        """Times and bounds."""


async def _livez(status: Status) -> Answer:
    return Answer(body="alive\n")


async def _readyz(status: Status) -> Answer:
    if status.unready:
        return Answer(status=503, body=f"{status.unready}\n")
    return Answer(body="ready\n")


async def _capacity(status: Status) -> Answer:
    streams = status.streams
    return Answer.of_json(
        {"used": streams.used, "total": streams.total, "draining": status.draining}
    )


async def _warm(status: Status) -> Answer:
    began = anyio.current_time()
    upstream = status.upstream
    if upstream.state not in (UpstreamState.READY, UpstreamState.FAILED):
        with (
            anyio.move_on_after(status.rules.warm_wait_s),
            # It will never be ready: the state says so.
            suppress(Exception),
        ):
            await upstream.wait_ready()
    ready = upstream.state is UpstreamState.READY
    report: dict[str, object] = {
        "ready": ready,
        "state": upstream.state.value,
        "waited_s": round(anyio.current_time() - began, 3),
        "model": upstream.model,
    }
    cold_start = getattr(upstream, "cold_start", None)
    if cold_start:
        report["cold_start"] = cold_start
    return Answer.of_json(report, status=200 if ready else 503)


async def _metrics(status: Status) -> Answer:
    text = status.metrics.render(_samples(status))
    url = getattr(status.upstream, "http_url", None)
    if url is not None:
        text += await http.fetch_metrics(url) or ""
    return Answer(body=text, kind="text/plain; version=0.0.4; charset=utf-8")


def _samples(status: Status) -> Iterator[Sample]:
    ready = status.upstream.state is UpstreamState.READY
    streams = status.streams
    audio_s = streams.received_samples / SAMPLE_RATE
    yield "streams", "gauge", "Streams being served.", streams.used
    yield "slots", "gauge", "Streams that can be served.", streams.total
    yield "draining", "gauge", "1 while new streams are refused.", status.draining
    yield "upstream_ready", "gauge", "1 while the model server is ready.", ready
    yield "audio_seconds_total", "counter", "Audio received.", audio_s
    yield "words_total", "counter", "Words told.", streams.words


PAGES: dict[str, Callable[[Status], Awaitable[Answer]]] = {
    "/livez": _livez,
    "/readyz": _readyz,
    "/capacity": _capacity,
    "/metrics": _metrics,
    "/v1/warm": _warm,
}
"""By path."""
