# SPDX-License-Identifier: AGPL-3.0-or-later
"""A recogniser that sleeps is woken when captions start, and only then."""

from __future__ import annotations

import logging

import anyio
import anyio.lowlevel
import pytest

from kyutai_stream.errors import ConnectFailed
from kyutai_stream.testing import FakeGateway, ScriptedBackend
from live_transcription.call import LiveCall
from spreed_signaling import RoomRefused
from spreed_signaling.testing._serve import bind_socket

from .talk import StartTalk

KEY, SECRET = "wk-of-the-tests", "ws-of-the-tests"


def modal_at(url: str) -> dict[str, str]:
    return {
        "LT_STT_BACKEND": "modal",
        "LT_STT_URL": url,
        "MODAL_KEY": KEY,
        "MODAL_SECRET": SECRET,
    }


async def asked(gateway: FakeGateway, times: int) -> None:
    """Wait until it was asked so often."""
    with anyio.fail_after(10):
        # The fake cannot tell when it is asked.
        while len(gateway.requests) < times:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    assert gateway.requests == ["/v1/warm"] * times


async def settled() -> None:
    """Let what has been started begin, and end if it need not wait."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def logged(caplog: pytest.LogCaptureFixture, text: str) -> logging.LogRecord:
    with anyio.fail_after(10):
        while True:
            for record in caplog.records:
                if text in record.getMessage():
                    return record
            # A log cannot be waited for.
            await anyio.sleep(0.01)


class Sleeper(ScriptedBackend):
    """A backend that can be woken, and what goes wrong then."""

    def __init__(self, problem: Exception | None = None) -> None:
        super().__init__()
        self.problem = problem
        self.woken = 0
        self.awake = anyio.Event()
        self.awake.set()

    async def warm(self) -> bool:
        self.woken += 1
        await self.awake.wait()
        if self.problem is not None:
            raise self.problem
        return False


async def test_only_when_captions_start(start: StartTalk) -> None:
    backend = Sleeper()
    async with start(backend) as talk:
        await talk.put("/enabled", enabled=1)
        await talk.get("/api/v1/languages")
        await talk.status()
        await talk.transcribe(enable=False)
        await talk.post("/api/v1/call/leave", {"roomToken": "abcd1234"})
        await settled()
        assert backend.woken == 0
        for times in (1, 2):
            assert (await talk.transcribe()).status_code == 200
            await settled()
            assert backend.woken == times
            # A second reader of the same call wakes nobody.
            await talk.transcribe(reader="nc2")
            await talk.transcribe(enable=False)
            await talk.post("/api/v1/call/leave", {"roomToken": "abcd1234"})
            await settled()
            assert backend.woken == times


async def test_once_at_a_time(start: StartTalk) -> None:
    backend = Sleeper()
    backend.awake = anyio.Event()
    async with start(backend) as talk:
        for room in ("one", "two", "three"):
            # The answer does not wait for it.
            with anyio.fail_after(3):
                assert (await talk.transcribe(room)).status_code == 200
            await settled()
            assert backend.woken == 1
        backend.awake.set()
        await settled()
        await talk.transcribe("four")
        await settled()
        assert backend.woken == 2


async def test_again_when_somebody_asks_after_a_failure(
    start: StartTalk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: LiveCall) -> None:
        raise RoomRefused("no_such_room")

    monkeypatch.setattr(LiveCall, "run", fail)
    backend = Sleeper()
    async with start(backend) as talk:
        for times in (1, 2, 3):
            await talk.transcribe()
            await settled()
            assert backend.woken == times
            (room,) = (await talk.status())["rooms"]
            assert room["state"] == "failed"


async def test_the_gateway_is_asked_with_the_keys(
    start: StartTalk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="live_transcription")
    gateway = FakeGateway(key=KEY, secret=SECRET, cold_start_s=0.2)
    async with gateway, start(**modal_at(gateway.url)) as talk:
        await talk.transcribe()
        await logged(caplog, "the recogniser is ready")
        await asked(gateway, 1)


async def test_a_wrong_secret_is_only_logged(
    start: StartTalk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="live_transcription")
    caplog.set_level(logging.DEBUG, logger="kyutai_stream")
    async with FakeGateway(key=KEY, secret="ws-another") as gateway:
        async with start(**modal_at(gateway.url)) as talk:
            assert (await talk.transcribe()).status_code == 200
            record = await logged(caplog, "could not be woken")
            (room,) = (await talk.status())["rooms"]
            assert room["state"] == "connecting"
    assert record.levelno == logging.WARNING
    assert "401" in record.getMessage()
    ours = [one for one in caplog.records if not one.name.startswith("websockets")]
    text = "\n".join(one.getMessage() for one in ours)
    assert KEY not in text and SECRET not in text


async def test_nobody_there(start: StartTalk, caplog: pytest.LogCaptureFixture) -> None:
    with bind_socket() as closed:
        url = f"ws://127.0.0.1:{closed.getsockname()[1]}"
        async with start(**modal_at(url)) as talk:
            assert (await talk.transcribe()).status_code == 200
            await logged(caplog, "could not be woken")


async def test_nobody_answers_at_the_end(start: StartTalk) -> None:
    """The end of the app does not wait for it."""
    async with FakeGateway(key=KEY, secret=SECRET, cold_start_s=600) as gateway:
        with anyio.fail_after(15):
            async with start(**modal_at(gateway.url)) as talk:
                await talk.transcribe()
                await asked(gateway, 1)


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (ConnectFailed("nobody there"), "could not be woken: nobody there"),
        (RuntimeError("with secrets"), "failed: RuntimeError"),
        (None, "asked to wake up"),
    ],
)
async def test_any_backend_may_offer_it(
    start: StartTalk,
    caplog: pytest.LogCaptureFixture,
    problem: Exception | None,
    told: str,
) -> None:
    caplog.set_level(logging.INFO, logger="live_transcription")
    backend = Sleeper(problem)
    async with start(backend) as talk:
        for number, room in enumerate(("one", "two"), start=1):
            caplog.clear()
            assert (await talk.transcribe(room)).status_code == 200
            await logged(caplog, told)
            assert backend.woken == number
    assert "with secrets" not in caplog.text


async def test_others_are_left_alone(
    start: StartTalk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="live_transcription")
    async with start(ScriptedBackend()) as talk:
        assert (await talk.transcribe()).status_code == 200
        await settled()
    assert "wake" not in caplog.text and "woken" not in caplog.text
