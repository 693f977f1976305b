"""A real browser speaks through the real servers, and our receiver hears it."""

from __future__ import annotations

import wave
from contextlib import aclosing
from pathlib import Path

import anyio
import jiwer
import pytest
from benchmarks.browser_audio import Job, browser_call, heard_text, observe

from live_transcription.demo.clips import bundled_clips
from spreed_signaling.media import Call

pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.timeout(120)]

SPEECH_S = 5.4
TEXT = "hello everyone and welcome to the meeting please tell me if you cannot hear me"


@pytest.fixture
def two_sentences(tmp_path: Path) -> Path:
    """The first two of the demo's first clip."""
    path = tmp_path / "speech.wav"
    with (
        wave.open(str(bundled_clips()[0].path)) as clip,
        wave.open(str(path), "wb") as w,
    ):
        w.setparams(clip.getparams())
        w.writeframes(clip.readframes(round(SPEECH_S * clip.getframerate())))
    return path


async def test_chromium_is_heard(real_available: None, two_sentences: Path) -> None:
    job = Job(speech=two_sentences, speech_s=SPEECH_S, pause_s=1.0)
    seen = await observe(job)
    offered, answered, to_us = seen.negotiated
    # Nobody asks for DTX, everybody knows FEC and levels.
    for leg in seen.negotiated:
        assert "useinbandfec=1" in str(leg["fmtp"])
        assert "usedtx" not in str(leg["fmtp"])
        assert "ssrc-audio-level" in str(leg["extensions"])
    assert "red" in str(offered["codecs"])
    assert answered["codecs"] == to_us["codecs"] == "opus"

    phases = {row["phase"]: row for row in seen.phases}
    for name in ("speech", "silence", "disabled", "again"):
        assert phases[name]["packet_ms"] == "20", name
        assert phases[name]["level_share"] == 1.0, name
    assert float(str(phases["speech"]["level_dbov_max"])) > -30
    assert phases["silence"]["level_dbov_p50"] == -127
    assert phases["disabled"]["level_dbov_p50"] == -127
    # Silence is sent (with DTX there would be gaps), a mute is not.
    muted_s = float(str(phases["again"]["rtp_gap_s"]))
    assert seen.stats.gap_s - muted_s < 0.2
    assert int(str(phases["muted"]["received_packets"])) < 10

    # Loopback loses nothing, unless the machine is too busy to read.
    assert seen.delivered_share > 0.98
    assert seen.stats.errors == 0
    assert jiwer.wer(TEXT, await heard_text(seen.speech)) <= 0.3


async def test_its_lost_packets_come_back(
    real_available: None, two_sentences: Path
) -> None:
    """Reports of loss make the browser send in-band FEC, which the SFU hands on."""
    job = Job(speech=two_sentences, speech_s=SPEECH_S, loss=0.2)
    with anyio.fail_after(90):
        async with browser_call(job) as there, Call(there.room) as call:
            speaker = await anext(call.speakers())

            async def keep_speaking() -> None:
                while True:
                    await there.browser.speak()
                    await anyio.sleep(SPEECH_S)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keep_speaking)
                async with aclosing(speaker.audio()) as audio:
                    async for _ in audio:
                        if speaker.stats.recovered >= 3:
                            break
                tasks.cancel_scope.cancel()
