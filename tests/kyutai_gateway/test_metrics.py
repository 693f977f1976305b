"""Prometheus text."""

from __future__ import annotations

from kyutai_gateway.metrics import Histogram, Metrics


def test_histogram() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.add(value)
    assert list(histogram.lines("x")) == [
        'x_bucket{le="0.1"} 2',
        'x_bucket{le="1"} 3',
        'x_bucket{le="+Inf"} 4',
        "x_sum 7.65",
        "x_count 4",
    ]


def test_every_sample_has_a_type() -> None:
    metrics = Metrics()
    metrics.ended["end"] += 2
    metrics.refused["capacity"] += 1
    page = metrics.render([("slots", "gauge", "Places.", 24)])
    typed = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
    for line in page.splitlines():
        if not line.startswith("#"):
            name = line.split("{")[0].split()[0]
            for suffix in ("_bucket", "_sum", "_count"):
                name = name.removesuffix(suffix)
            assert name in typed
    assert 'kyutai_gateway_streams_ended_total{reason="end"} 2' in page
    assert "kyutai_gateway_slots 24" in page
    assert page.endswith("\n")
