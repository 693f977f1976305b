# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the app tells and asks Nextcloud."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from live_transcription.nextcloud import parse_ice_servers
from spreed_signaling.testing import StandInNextcloud
from spreed_signaling.testing._serve import AppServer, bind_socket
from spreed_signaling.testing.nextcloud import ReceivedRequest
from spreed_signaling.types import IceServer

from .scene import Open, embedded_site
from .talk import SECRET, StartTalk, Talk


def enable(nextcloud: StandInNextcloud) -> None:
    nextcloud.register_exapp(url="http://127.0.0.1:9", secret=SECRET)
    assert nextcloud.exapp is not None
    nextcloud.exapp.enabled = True


def is_line(request: ReceivedRequest) -> bool:
    return request.path.endswith("/log")


def is_about_the_settings(request: ReceivedRequest) -> bool:
    return is_line(request) and b"LT_HPB_URL is not set" in request.body


async def dropped(talk: Talk) -> int:
    lines: int = (await talk.status())["nextcloud"]["log_lines_dropped"]
    return lines


def test_talks_settings_to_ice_servers() -> None:
    data = {
        "stunservers": [{"urls": ["stun:s.example.com:443"]}],
        "turnservers": [
            {"urls": "turn:t.example.com", "username": "u", "credential": "c"}
        ],
    }
    assert parse_ice_servers(data) == (
        IceServer(urls=("stun:s.example.com:443",)),
        IceServer(urls=("turn:t.example.com",), username="u", credential="c"),
    )


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"stunservers": None},
        {"stunservers": [None, {}, {"urls": 3}, {"urls": [4, ""]}]},
    ],
)
def test_strange_settings_mean_no_server(data: Any) -> None:
    assert parse_ice_servers(data) == ()


async def test_warnings_reach_nextclouds_log(stage: Open) -> None:
    async with embedded_site() as nextcloud, stage(nextcloud) as scene:
        bob = await scene.enter("bob")
        await scene.press(bob, lang_id="de")
        logged = await nextcloud.wait_for_request(
            lambda request: is_line(request) and b"room" in request.body
        )
        assert SECRET.encode() not in logged.body


async def test_what_is_wrong_with_the_settings_reaches_nextclouds_log(
    start: StartTalk,
) -> None:
    async with StandInNextcloud() as nextcloud:
        enable(nextcloud)
        async with start(NEXTCLOUD_URL=nextcloud.url, LT_HPB_URL=""):
            await nextcloud.wait_for_request(is_about_the_settings)


async def test_lines_wait_while_nextcloud_is_away(
    start: StartTalk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live_transcription.nextcloud._LOG_RETRY_S", 0.05)
    with bind_socket() as reserved:
        port = reserved.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    async with start(NEXTCLOUD_URL=url, LT_HPB_URL="") as talk:
        await talk.put("/enabled", enabled=1)
        with anyio.fail_after(5):
            # The status has no way to wait for it.
            while not (await talk.status())["nextcloud"]["last_error"]:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        async with StandInNextcloud(port=port) as nextcloud:
            enable(nextcloud)
            await nextcloud.wait_for_request(is_about_the_settings, 10)
        assert (await talk.status())["nextcloud"]["log_lines_dropped"] == 0


async def test_lines_that_nextcloud_refuses_are_counted_and_not_sent_again(
    start: StartTalk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live_transcription.nextcloud._LOG_RETRY_S", 0.05)
    async with StandInNextcloud() as nextcloud:
        # It is not enabled there.
        nextcloud.register_exapp(url="http://127.0.0.1:9", secret=SECRET)
        async with start(NEXTCLOUD_URL=nextcloud.url, LT_HPB_URL="") as talk:
            await talk.put("/enabled", enabled=1)
            lines = len((await talk.status())["problems"])
            with anyio.fail_after(5):
                # The status has no way to wait for it.
                while (await dropped(talk)) < lines:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            assert not [one for one in nextcloud.requests if is_line(one)]


async def test_enabled_state_is_learned_from_nextcloud(start: StartTalk) -> None:
    async with StandInNextcloud() as nextcloud:
        nextcloud.register_exapp(url="http://127.0.0.1:9", secret=SECRET)
        async with start(NEXTCLOUD_URL=nextcloud.url) as talk:
            await nextcloud.wait_for_request(
                lambda request: request.path.endswith("/ex-app/state")
            )
            with anyio.fail_after(5):
                # The status has no way to wait for it.
                while (await talk.status())["enabled"] is None:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            assert (await talk.status())["enabled"] is False


async def test_init_is_reported_once_nextcloud_is_reachable(start: StartTalk) -> None:
    with bind_socket() as reserved:
        port = reserved.getsockname()[1]
    async with start(NEXTCLOUD_URL=f"http://127.0.0.1:{port}") as talk:
        assert (await talk.post("/init", None)).json() == {}
        async with AppServer(talk.app) as server:
            async with StandInNextcloud(port=port) as nextcloud:
                nextcloud.register_exapp(url=server.url, secret=SECRET)
                assert nextcloud.exapp is not None
                nextcloud.exapp.installing = True
                report = await nextcloud.wait_for_request(
                    lambda request: request.path.endswith("/ex-app/status"), 10
                )
                with anyio.fail_after(5):
                    # Nextcloud has no event for this.
                    while not nextcloud.exapp.enabled:  # noqa: ASYNC110
                        await anyio.sleep(0.01)
    assert json.loads(report.body) == {"progress": 100, "error": ""}
