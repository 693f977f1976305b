"""Speech of tones through HPB, Janus, ExApp and gateway to the real moshi-server.

Nothing is made up but the weights, which were generated and hear tones. On the CPU
they are hardly faster than speech, slower on a busy machine: captions may come late,
but they must be what was said.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from attrs import define, field

from kyutai_stream.testing.real import RealMoshiServer, unavailable_reason
from live_transcription.demo.clips import Clip
from live_transcription.demo.director import Timing, perform
from live_transcription.demo.stage import Stage, open_stage
from live_transcription.demo.tones import tone_clips
from live_transcription.notices import is_notice

from .processes import (
    CREDENTIALS,
    GatewayProcess,
    attached,
    require_exact,
    running_demo,
    running_gateway,
    supervised,
    whole_demo,
    words_in,
)

pytestmark = [pytest.mark.moshi, pytest.mark.real, pytest.mark.timeout(300)]

FIRST = -15
"""Niceness; inherited by all that is started, but given up by moshi-server."""

PATIENT = Timing(
    assemble_s=60.0, listen_s=120.0, complete_s=150.0, settle_s=15.0, quiet_s=2.5
)


@pytest.fixture(autouse=True)
def everything_real(request: pytest.FixtureRequest, real_available: None) -> None:
    reason = unavailable_reason()
    if reason is not None:
        if request.config.getoption("--require-real"):
            pytest.fail(f"required in this run, but not available: {reason}")
        pytest.skip(f"NOT TESTED AGAINST THE REAL SERVER: {reason}")


@pytest.fixture(autouse=True)
def hurry() -> Iterator[None]:
    """Let media come before what else this machine does, where we may.

    Speech that stalls for 1.5 s in the middle of a word counts as a pause: then words
    are said twice or not at all, as they would be in a real call. The model may be
    late.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, FIRST)
    yield
    os.setpriority(os.PRIO_PROCESS, 0, before)


@asynccontextmanager
async def own_server(folder: Path, slots: int) -> AsyncIterator[GatewayProcess]:
    """A gateway that has started a moshi-server and proven it ready."""
    settings = await supervised(folder, slots)
    async with running_gateway(folder, settings, ready_s=120) as gateway:
        yield gateway
        left = list(gateway.children())
        await gateway.end(signal.SIGTERM)
        assert not [pid for pid in left if is_running(pid)]


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def server_of(gateway: GatewayProcess) -> int:
    (pid,) = (pid for pid, name in gateway.children().items() if name == "moshi-server")
    return pid


def require_silence(gateway: GatewayProcess) -> None:
    """What was said, and the keys, are in no log."""
    assert words_in(gateway.log) == set()
    for secret in CREDENTIALS.values():
        assert secret not in gateway.log


async def test_the_demo(tmp_path: Path) -> None:
    async with own_server(tmp_path, slots=1) as gateway:
        assert list(gateway.children().values()) == ["moshi-server"]
        status, records, errors = await whole_demo(
            tmp_path,
            *("--backend", "modal", "--stt-url", gateway.url),
            *("--signaling", "real"),
            secrets=CREDENTIALS,
        )
        assert status == 0, errors
        require_exact(records, 1)
        assert gateway.log.count('"upstream_end"') == 0
    require_silence(gateway)


async def test_the_gateway_is_killed_in_mid_speech(tmp_path: Path) -> None:
    async with (
        RealMoshiServer(batch_size=1, model="listen") as server,
        running_gateway(tmp_path, attached(server.url)) as gateway,
        running_demo(
            tmp_path,
            *("--backend", "modal", "--stt-url", gateway.url),
            *("--signaling", "real"),
            secrets=CREDENTIALS,
        ) as (demo, process),
    ):
        await demo.hear(captions=4)
        await gateway.restart(signal.SIGKILL)
        await demo.hear_all()
        assert await process.wait() == 0
        require_exact(demo.records, 1)


@define
class Heard:
    """What the reader got."""

    finals: dict[str, list[str]] = field(factory=dict)
    captions: int = 0
    news: anyio.Event = field(factory=anyio.Event)

    def show(self, speaker: str, text: str, final: bool, lang: str) -> None:
        self.captions += 1
        if final and not is_notice(text):
            self.finals.setdefault(speaker, []).extend(text.split())
        self.news.set()
        self.news = anyio.Event()

    async def until(self, captions: int) -> None:
        while self.captions < captions:
            await self.news.wait()

    def missing(self, clips: tuple[Clip, ...]) -> int:
        """How many words have not come."""
        return sum(
            len((clip.text or "").split()) - len(self.finals.get(clip.name, ()))
            for clip in clips
        )


async def call(stage: Stage, clips: tuple[Clip, ...], heard: Heard) -> None:
    """Let the talkers speak to a reader of captions."""
    await perform(
        stage,
        clips,
        heard.show,
        # Shown where the test has failed.
        step=print,
        on_voice=lambda name, at: None,
        timing=PATIENT,
        complete=lambda: heard.missing(clips) <= 0,
    )


async def test_the_exapp_while_the_model_server_is_killed(tmp_path: Path) -> None:
    """The gateway starts another; captions go on and no word is lost."""
    clips = tone_clips(tmp_path, 2)
    heard = Heard()
    async with own_server(tmp_path, slots=2) as gateway:
        environment = {**os.environ, **CREDENTIALS, "LT_STT_URL": gateway.url}
        async with (
            open_stage("real", "modal", environment, step=print) as stage,
            anyio.create_task_group() as tasks,
        ):

            async def kill() -> None:
                await heard.until(captions=4)
                os.kill(server_of(gateway), signal.SIGKILL)

            tasks.start_soon(kill)
            await call(stage, clips, heard)
        ends = gateway.log.count('"upstream_end"')
    for clip in clips:
        assert heard.finals[clip.name] == (clip.text or "").split()
    assert ends == 1
    require_silence(gateway)
    log = "\n".join(stage.exapp_log)
    assert not [secret for secret in CREDENTIALS.values() if secret in log]
    # It asked the gateway when CC was pressed.
    assert "the recogniser is ready" in log
