# SPDX-License-Identifier: MIT
"""What a browser negotiates and sends, as a bot behind the real servers gets it.

A headless Chromium with a sound file as microphone joins a call on the real signaling
server and Janus as Talk's web client would; our client listens.

    python -m benchmarks.browser_audio
    python -m benchmarks.browser_audio --json --loss 0.1

The first rows are what was negotiated (`leg`: browser to Janus, Janus to us); the
others what came while the person speaks, is silent (digital silence), has a disabled
track (also that sends silence), is muted as Talk mutes (no track) and speaks again.

- `sent_packets`: by the browser's statistics; taken a little earlier or later than
  ours, so the two differ by some packets.
- `opus`: mode, audio bandwidth and channels of the encoder.
- `fec_share`: packets that carry the one before once more.
- `level_share`, `level_dbov_*`: the audio-level extension (RFC 6464).
- `wall_gap_s`, `rtp_gap_s` (`again`): how long the mute was, and how much of it the
  timestamps show.
- `wer`: of what pocketsphinx understands of it, where the text is known.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import anyio
import jiwer
import numpy as np
import numpy.typing as npt
from attrs import frozen

from kyutai_stream import Final, open_session
from live_transcription.demo.clips import bundled_clips, load_clip
from spreed_signaling.media import SpeakerStats
from spreed_signaling.testing.browser import BrowserUnavailable
from spreed_signaling.testing.real import RealServersUnavailable

from ._browser_call import BrowserCall, Job, browser_call
from ._browser_phases import Ears, Phases
from ._browser_probe import watch_packets
from ._figures import Row, show

__all__ = [
    "BrowserCall",
    "Job",
    "Observation",
    "browser_call",
    "heard_text",
    "main",
    "observe",
]


@frozen(kw_only=True)
class Observation:
    """What came of it."""

    versions: dict[str, str]
    negotiated: list[Row]
    phases: list[Row]
    speech: npt.NDArray[np.float32]
    """What was heard from the first to the last word, 24 kHz; gaps are left out."""
    delivered_share: float
    """Of the packets that the browser sent once we listened."""
    stats: SpeakerStats


async def observe(job: Job) -> Observation:
    """Let a browser publish through real servers and listen to it.

    Raises:
        BrowserUnavailable: If there is no browser.
        RealServersUnavailable: If the real servers cannot run here.
    """
    with watch_packets() as packets:
        async with browser_call(job) as call:
            phases = Phases(job, call.browser, Ears(packets))
            offer = await phases.run(call.client, call.room)
    legs = {
        "browser offers": call.negotiated.offer,
        "Janus answers": call.negotiated.answer,
        "Janus offers us": offer,
    }
    return Observation(
        versions={
            "browser": call.browser.version,
            "signaling": call.server.version,
            "janus": call.server.janus_version,
        },
        negotiated=[_leg(name, sdp) for name, sdp in legs.items()],
        phases=phases.rows,
        speech=phases.speech(),
        delivered_share=packets.delivered_share(),
        stats=phases.stats,
    )


def _leg(name: str, sdp: str) -> Row:
    """What a description says of audio."""
    audio = sdp[sdp.index("m=audio") :].split("\nm=")[0]
    return {
        "leg": name,
        "fmtp": ", ".join(re.findall(r"(?m)^a=fmtp:111 (\S+)", audio)),
        "codecs": ", ".join(re.findall(r"(?m)^a=rtpmap:\d+ (\w+)", audio)),
        "extensions": ", ".join(
            re.findall(r"(?m)^a=extmap:\d+ \S*[:/]([\w-]+)", audio)
        ),
        "direction": ", ".join(re.findall(r"(?m)^a=(\w+(?:recv|only))\b", audio)),
    }


async def heard_text(speech: npt.NDArray[np.float32]) -> str:
    """What pocketsphinx understands of 24 kHz audio."""
    async with open_session("pocketsphinx", language="en") as session:

        async def push() -> None:
            await session.push(speech)
            await session.end_input()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(push)
            finals = [event.text async for event in session if isinstance(event, Final)]
    return " ".join(finals)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.browser_audio",
        description="What Chromium negotiates and sends through the real servers.",
    )
    parser.add_argument("--speech", type=Path, help="a WAV file instead of the demo's")
    parser.add_argument("--pause", type=float, default=3.0, help="seconds a phase")
    parser.add_argument(
        "--unprocessed",
        action="store_true",
        help="without echo cancellation, noise reduction and automatic level",
    )
    parser.add_argument(
        "--dtx",
        action="store_true",
        help="as if the SFU wanted discontinuous transmission",
    )
    parser.add_argument(
        "--loss", type=float, default=0.0, help="share lost before the SFU"
    )
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    return parser.parse_args(arguments)


async def _run(options: argparse.Namespace) -> None:
    clip = bundled_clips()[0] if options.speech is None else load_clip(options.speech)
    job = Job(
        speech=clip.path,
        speech_s=clip.duration_s,
        pause_s=options.pause,
        processing=not options.unprocessed,
        dtx=options.dtx,
        loss=options.loss,
    )
    seen = await observe(job)
    heard: dict[str, object] = {**seen.versions, "processing": job.processing}
    heard |= {"dtx": job.dtx, "loss": job.loss, "delivered_share": seen.delivered_share}
    for key in ("lost", "recovered", "concealed_s", "gap_s", "skipped_s", "errors"):
        heard[key] = getattr(seen.stats, key)
    if clip.text is not None:
        said = clip.text.lower().replace(".", "")
        heard["wer"] = jiwer.wer(said, await heard_text(seen.speech))
    if options.json:
        show([*seen.negotiated, *seen.phases, heard], as_json=True)
        return
    for rows in (seen.negotiated, seen.phases, [heard]):
        show(rows, as_json=False)
        print()


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    try:
        anyio.run(_run, _parse(arguments))
    except (BrowserUnavailable, RealServersUnavailable) as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
