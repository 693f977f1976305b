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
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import anyio
import jiwer
import numpy as np
import numpy.typing as npt
from attrs import define, field, frozen

from kyutai_stream import Final, open_session
from live_transcription.demo.clips import bundled_clips, load_clip
from spreed_signaling import Client, DataReceived, InternalAuth, Room, connect
from spreed_signaling.media import AudioChunk, Call, Speaker, SpeakerStats
from spreed_signaling.testing import StandInNextcloud
from spreed_signaling.testing.browser import (
    BrowserPublisher,
    BrowserUnavailable,
    Negotiated,
)
from spreed_signaling.testing.real import RealServers, RealServersUnavailable

from ._browser_probe import Packets, describe, open_relay, watch_packets
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

ROOM = "demoroom"
FIRST_S = 30.0
"""For the first packet, on a machine that is busy with other things."""


@frozen(kw_only=True)
class Job:
    """What the browser does."""

    speech: Path
    speech_s: float
    pause_s: float = 3.0
    """Of each phase without speech."""
    processing: bool = True
    dtx: bool = False
    loss: float = 0.0
    """Share of the packets lost between browser and Janus."""


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


@define
class _Ears:
    """Our client: what it hears of one speaker."""

    packets: Packets
    chunks: list[AudioChunk] = field(factory=list)

    async def listen(self, speaker: Speaker) -> None:
        async with aclosing(speaker.audio()) as audio:
            async for chunk in audio:
                self.chunks.append(chunk)


@frozen(kw_only=True)
class BrowserCall:
    """A call with a browser that publishes and with our client."""

    browser: BrowserPublisher
    negotiated: Negotiated
    server: RealServers
    client: Client
    room: Room


@asynccontextmanager
async def browser_call(job: Job) -> AsyncIterator[BrowserCall]:
    """Start servers and browser, publish, and join the call.

    Raises:
        BrowserUnavailable: If there is no browser.
        RealServersUnavailable: If the real servers cannot run here.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        nextcloud = await enter(StandInNextcloud())
        nextcloud.add_room(ROOM)
        alice = nextcloud.add_member(ROOM, "alice", "Alice")
        secret = nextcloud.backend_secret
        server = await enter(
            RealServers(backend_url=nextcloud.url, backend_secret=secret)
        )
        nextcloud.hpb_url = server.url
        relay = await enter(open_relay(job.loss, server.host_address))
        browser = await enter(
            BrowserPublisher(
                server.url,
                alice,
                job.speech,
                processing=job.processing,
                dtx=job.dtx,
                reroute=relay.reroute if job.loss else None,
            )
        )
        await nextcloud.join_call(alice)
        negotiated = await browser.publish()
        stack.enter_context(server.pinned_ice())
        auth = InternalAuth(secret=server.internal_secret, backend_url=nextcloud.url)
        client = await enter(connect(server.url, auth))
        yield BrowserCall(
            browser=browser,
            negotiated=negotiated,
            server=server,
            client=client,
            room=await enter(client.join(ROOM)),
        )


async def observe(job: Job) -> Observation:
    """Let a browser publish through real servers and listen to it.

    Raises:
        BrowserUnavailable: If there is no browser.
        RealServersUnavailable: If the real servers cannot run here.
    """
    with watch_packets() as packets:
        async with browser_call(job) as call:
            phases = _Phases(job, call.browser, _Ears(packets))
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


class _Phases:
    """One after the other, with the same connection."""

    stats: SpeakerStats

    def __init__(self, job: Job, browser: BrowserPublisher, ears: _Ears) -> None:
        self.ears = ears
        self.rows: list[Row] = []
        self._job = job
        self._browser = browser
        self._spoken: tuple[int, int] = (0, 0)

    async def run(self, client: Client, room: Room) -> str:
        """Go through all of them; returns the SFU's offer to us."""
        with client.subscribe() as events:
            async with Call(room) as call, anyio.create_task_group() as tasks:
                with anyio.fail_after(FIRST_S):
                    speaker = await anext(call.speakers())
                    tasks.start_soon(self.ears.listen, speaker)
                    async for event in events:
                        if isinstance(event, DataReceived):
                            if event.data.get("type") == "offer":
                                offer = str(event.data["payload"]["sdp"])
                                break
                await self.ears.packets.wait_for(0.5, 0, FIRST_S)
                await self._go_through(speaker)
                self.stats = speaker.stats
                tasks.cancel_scope.cancel()
        return offer

    async def _go_through(self, speaker: Speaker) -> None:
        browser, packets = self._browser, self.ears.packets
        begin = len(self.ears.chunks)
        await self._phase("speech", browser.speak, self._speech_over)
        await self._phase("silence", None, self._pause)
        self._spoken = (begin, len(self.ears.chunks))
        await self._phase("disabled", self._disable, self._pause)
        await browser.mute()
        # What is on its way does not belong to it.
        await packets.wait_for_pause(0.5, FIRST_S)
        await self._phase("muted", None, self._pause)
        before = packets.seen[-1]
        start = len(packets.seen)
        await self._phase("again", browser.speak, self._a_second)
        after = packets.seen[start]
        ticks = (after.timestamp - before.timestamp - before.ticks) & 0xFFFFFFFF
        self.rows[-1] = {
            **self.rows[-1],
            "wall_gap_s": after.at - before.at - before.ticks / 48_000,
            "rtp_gap_s": ticks / 48_000,
        }

    async def _phase(
        self,
        name: str,
        begin: Callable[[], Awaitable[None]] | None,
        over: Callable[[int], Awaitable[None]],
    ) -> None:
        if begin is not None:
            await begin()
        start, sent = len(self.ears.packets.seen), await self._browser.sent()
        began_at = anyio.current_time()
        await over(start)
        seconds = anyio.current_time() - began_at
        seen = self.ears.packets.seen[start:]
        now_sent = await self._browser.sent()
        figures = describe(seen, seconds)
        row = {"phase": name, "seconds": seconds, "received_packets": len(seen)}
        row["sent_packets"] = now_sent.packets - sent.packets
        self.rows.append({**row, **figures})

    async def _speech_over(self, start: int) -> None:
        seconds = self._job.speech_s
        await self.ears.packets.wait_for(seconds, start, seconds * 2 + FIRST_S)

    async def _a_second(self, start: int) -> None:
        await self.ears.packets.wait_for(1.0, start, FIRST_S)

    async def _pause(self, start: int) -> None:
        await anyio.sleep(self._job.pause_s)

    async def _disable(self) -> None:
        await self._browser.set_enabled(False)

    def speech(self) -> npt.NDArray[np.float32]:
        first, last = self._spoken
        return np.concatenate([one.samples for one in self.ears.chunks[first:last]])


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
