# SPDX-License-Identifier: MIT
"""What a person at a browser does in a call, and what of it reaches us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing

import anyio
import numpy as np
import numpy.typing as npt
from attrs import define, field

from spreed_signaling import Client, DataReceived, Room
from spreed_signaling.media import AudioChunk, Call, Speaker, SpeakerStats
from spreed_signaling.testing.browser import BrowserPublisher

from ._browser_call import Job
from ._browser_probe import Packets, describe
from ._figures import Row

__all__ = ["Ears", "Phases"]

FIRST_S = 30.0
"""For the first packet, on a machine that is busy with other things."""


@define
class Ears:
    """Our client: what it hears of one speaker."""

    packets: Packets
    chunks: list[AudioChunk] = field(factory=list)

    async def listen(self, speaker: Speaker) -> None:
        async with aclosing(speaker.audio()) as audio:
            async for chunk in audio:
                self.chunks.append(chunk)


class Phases:
    """One after the other, with the same connection."""

    stats: SpeakerStats

    def __init__(self, job: Job, browser: BrowserPublisher, ears: Ears) -> None:
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
