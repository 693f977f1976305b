# SPDX-License-Identifier: MIT
"""What the receive benchmarks share: cases, their arguments, and a case's row."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import frozen

from ._figures import Row, percentile
from ._receive_sender import ENCODER_S, PACKET_S, Loss

__all__ = ["PATHS", "Case", "add_arguments", "cases", "row", "why_not"]

PATHS = ("ours", "stock_soxr", "stock_resample_poly")
"""Ways to receive that are compared."""

RATE = 24_000
PACKET_SAMPLES = 480


@frozen(kw_only=True)
class Case:
    """One row to be measured."""

    path: str
    speakers: int
    loss: Loss
    seconds: float
    warm_up_s: float

    @property
    def packets(self) -> int:
        """How many each speaker sends.

        Also what is sent while the figures are taken belongs to the latencies.
        """
        return round((self.warm_up_s + self.seconds) / PACKET_S)

    @property
    def titles(self) -> dict[str, object]:
        """The begin of its row."""
        return {
            "path": self.path,
            "speakers": self.speakers,
            "loss": self.loss.share,
            "burst": self.loss.burst,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what both benchmarks can be told."""
    parser.add_argument("--paths", nargs="+", default=list(PATHS), choices=PATHS)
    parser.add_argument("--seconds", type=float, default=15.0, help="measured, a row")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds before")
    parser.add_argument("--json", action="store_true", help="figures as JSON")


def cases(
    options: argparse.Namespace, loads: Iterable[tuple[int, Loss]]
) -> Iterable[Case]:
    """Yield what is to be measured.

    The paths follow one another, so that a busy machine is busy for all.

    Args:
        options: From `add_arguments`.
        loads: Speakers, and what is lost of each.
    """
    for speakers, loss in loads:
        for path in options.paths:
            yield Case(
                path=path,
                speakers=speakers,
                loss=loss,
                seconds=options.seconds,
                warm_up_s=options.warm_up,
            )


def why_not(path: str) -> str | None:
    """Why a path cannot be measured here."""
    if path == "stock_soxr" and importlib.util.find_spec("soxr") is None:
        return "soxr is not installed (pip install soxr)"
    return None


def row(
    case: Case,
    figures: dict[str, Any],
    *,
    clicks_sent: Sequence[Sequence[float]],
    arrived_s: float,
) -> Row:
    """Return the figures of a case.

    Args:
        case: What was measured.
        figures: What the receiving process found.
        clicks_sent: When each speaker's packets with a click went out, in the order
            of the figures.
        arrived_s: Seconds of audio that were not lost, of all speakers together.
    """
    click_ms: list[float] = []
    beyond_ms: list[float] = []
    for sent_at, heard in zip(clicks_sent, figures["clicks"], strict=True):
        for heard_at, following in heard:
            sent = [at for at in sent_at if at <= heard_at]
            if sent and heard_at - sent[-1] < 0.9:
                late_ms = (heard_at - sent[-1]) * 1000
                click_ms.append(late_ms)
                # What follows the packet with the click came later.
                rest = following - (PACKET_SAMPLES - ENCODER_S * RATE)
                beyond_ms.append(late_ms - max(0.0, rest) / RATE * 1000)
    concealed_s = sum(figures["concealed_ms"]) / 1000
    return {
        **case.titles,
        "cpu_us_per_audio_s": figures["cpu_us_per_audio_s"],
        "click_to_frame_ms_p50": percentile(click_ms, 50),
        "click_to_frame_ms_p95": percentile(click_ms, 95),
        "beyond_framing_ms_p50": percentile(beyond_ms, 50),
        "beyond_framing_ms_p95": percentile(beyond_ms, 95),
        "delivered_share": (sum(figures["samples"]) / RATE - concealed_s) / arrived_s,
        "concealed_ms_per_s": concealed_s * 1000 / arrived_s,
        "kb_per_speaker": figures["kb_per_speaker"],
    }
