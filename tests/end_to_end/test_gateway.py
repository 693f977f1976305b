"""Speech of tones through the ExApp and the gateway: captions are what was said.

The talkers' tones go through Opus, the SFU, the ExApp and the gateway to a recogniser
that hears them. The model is the fake one here, the real one in
`test_real_gateway.py`.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from kyutai_stream.testing.moshi_server import FakeMoshiServer
from spreed_signaling.testing import ServerKind

from .processes import (
    CREDENTIALS,
    attached,
    require_exact,
    running_demo,
    running_gateway,
    whole_demo,
    words_in,
)


@pytest.mark.timeout(150)
async def test_captions_through_the_gateway(
    tmp_path: Path, server_kind: ServerKind
) -> None:
    async with (
        FakeMoshiServer() as server,
        running_gateway(tmp_path, attached(server.url)) as gateway,
    ):
        status, records, errors = await whole_demo(
            tmp_path,
            *("--backend", "modal", "--stt-url", gateway.url),
            *("--talkers", "2", "--signaling", server_kind),
            secrets=CREDENTIALS,
        )
        assert status == 0, errors
        require_exact(records, 2)
        await server.wait_until(lambda: server.used_slots == 0)
        await gateway.end(signal.SIGTERM)
    for secret in CREDENTIALS.values():
        assert secret not in errors
        assert secret not in json.dumps(records)
        assert secret not in gateway.log
    assert gateway.log.count('"stream_opened"') >= 2
    assert words_in(gateway.log) == set()


@pytest.mark.timeout(150)
async def test_the_gateway_restarts_in_mid_speech(
    tmp_path: Path, server_kind: ServerKind
) -> None:
    async with (
        FakeMoshiServer() as server,
        running_gateway(tmp_path, attached(server.url)) as gateway,
        running_demo(
            tmp_path,
            *("--backend", "modal", "--stt-url", gateway.url),
            *("--signaling", server_kind),
            secrets=CREDENTIALS,
        ) as (demo, process),
    ):
        await demo.hear(captions=3)
        await gateway.restart(signal.SIGTERM)
        await demo.hear(captions=9)
        await gateway.restart(signal.SIGKILL)
        await demo.hear_all()
        assert await process.wait() == 0
        require_exact(demo.records, 1)
        # The first probe of each gateway comes on top of the three streams.
        assert len([one for one in server.connections if one.frames > 1]) == 3


async def test_a_wrong_secret_is_said_at_once(tmp_path: Path) -> None:
    async with (
        FakeMoshiServer() as server,
        running_gateway(tmp_path, attached(server.url)) as gateway,
    ):
        wrong = {**CREDENTIALS, "MODAL_SECRET": "ws-something-else"}
        status, records, errors = await whole_demo(
            tmp_path,
            *("--backend", "modal", "--stt-url", gateway.url),
            *("--signaling", "embedded"),
            secrets=wrong,
        )
    assert status == 1
    assert records == []
    assert "MODAL" in errors.upper() and "something-else" not in errors


async def test_straight_to_a_moshi_server(tmp_path: Path) -> None:
    async with FakeMoshiServer(keys=["another_token"]) as server:
        status, records, errors = await whole_demo(
            tmp_path,
            *("--backend", "moshi-server", "--stt-url", server.url),
            *("--signaling", "embedded"),
            secrets={"LT_STT_API_KEY": "another_token"},
        )
    assert status == 0, errors
    require_exact(records, 1)
    assert "another_token" not in errors + json.dumps(records)
