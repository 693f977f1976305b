# SPDX-License-Identifier: AGPL-3.0-or-later
from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from live_transcription.demo.page import (
    MAX_BROWSERS,
    QUEUE_EVENTS,
    CaptionFeed,
    CaptionPage,
    page_app,
)
from spreed_signaling.testing._serve import bind_socket

LIMIT_S = 10.0


class Events:
    """The events of one stream, parsed."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines: AsyncIterator[str] = response.aiter_lines()

    async def next(self) -> tuple[str, dict[str, Any]]:
        kind = ""
        with anyio.fail_after(LIMIT_S):
            async for line in self._lines:
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                if line.startswith("data: "):
                    return kind, json.loads(line.removeprefix("data: "))
        raise EOFError("the stream has ended")


@asynccontextmanager
async def follow(page: CaptionPage) -> AsyncGenerator[Events, None]:
    async with (
        httpx.AsyncClient(timeout=LIMIT_S) as client,
        client.stream("GET", f"{page.url}events") as response,
    ):
        assert response.status_code == 200
        yield Events(response)


def kinds(events: list[str]) -> list[str]:
    return [e.split("event: ")[1].split("\n")[0] for e in events if "event: " in e]


class TestFiles:
    @pytest.mark.parametrize("name", ["", "style.css", "captions.js"])
    async def test_served_and_kept_to_themselves(self, name: str) -> None:
        async with CaptionPage() as page, httpx.AsyncClient() as client:
            answer = await client.get(page.url + name)
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "*" not in policy
            assert "http" not in policy
            assert "http://" not in answer.text
            assert "https://" not in answer.text

    async def test_nothing_else_is_served(self) -> None:
        async with CaptionPage() as page, httpx.AsyncClient() as client:
            for name in ("page.py", "..%2fpage.py", "clips/LICENCE.md"):
                assert (await client.get(page.url + name)).status_code == 404

    async def test_foreign_host_names_are_refused(self) -> None:
        async with CaptionPage() as page, httpx.AsyncClient() as client:
            answer = await client.get(page.url, headers={"Host": "evil.example"})
            assert answer.status_code == 400

    def test_no_address_before_it_is_served(self) -> None:
        with pytest.raises(RuntimeError, match="only while"):
            _ = CaptionPage().url

    async def test_taken_port(self) -> None:
        async with CaptionPage() as page:
            port = httpx.URL(page.url).port
            assert port is not None
            with pytest.raises(OSError):
                async with CaptionPage(port=port):
                    pass

    async def test_chosen_port(self) -> None:
        with bind_socket() as sock:
            port = sock.getsockname()[1]
        async with CaptionPage(port=port) as page:
            assert page.url == f"http://127.0.0.1:{port}/"


class TestStream:
    async def test_state_first_then_every_change(self) -> None:
        async with CaptionPage(people=["Alice", "Ben"]) as page:
            page.set_status("starting")
            page.show("Ben", "hello", True, "en")
            async with follow(page) as events:
                kind, state = await events.next()
                assert kind == "state"
                assert state["status"] == "starting"
                assert state["people"] == ["Alice", "Ben"]
                assert state["blocks"][0]["chunks"][0]["text"] == "hello"
                page.show("Ben", "how", False, "en_GB")
                kind, block = await events.next()
                assert (kind, block["speaker"], block["person"]) == ("block", "Ben", 1)
                assert [chunk["final"] for chunk in block["chunks"]] == [True, False]
                assert block["chunks"][1]["lang"] == "en-GB"
                page.set_status("running")
                assert await events.next() == ("status", {"text": "running"})

    async def test_end_of_the_demo_is_told(self) -> None:
        seen: list[str] = []
        streaming = anyio.Event()

        async def read(url: str) -> None:
            async with client.stream("GET", url) as response:
                async for line in response.aiter_lines():
                    seen.append(line)
                    streaming.set()

        with anyio.fail_after(LIMIT_S):
            async with (
                httpx.AsyncClient(timeout=LIMIT_S) as client,
                anyio.create_task_group() as tasks,
                CaptionPage() as page,
            ):
                tasks.start_soon(read, f"{page.url}events")
                await streaming.wait()
        assert "event: bye" in seen

    async def test_a_browser_that_leaves_is_forgotten(self) -> None:
        async with CaptionPage() as page:
            async with follow(page) as events:
                await events.next()
                assert page.browsers == 1
            with anyio.fail_after(LIMIT_S):
                # Nothing tells when the server has noticed.
                while page.browsers:  # noqa: ASYNC110
                    await anyio.sleep(0.01)

    async def test_too_many_browsers_are_refused(self) -> None:
        feed = CaptionFeed()
        transport = httpx.ASGITransport(page_app(feed))
        async with (
            anyio.create_task_group() as tasks,
            httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1"
            ) as client,
        ):
            for _ in range(MAX_BROWSERS):
                tasks.start_soon(client.get, "/events")
            with anyio.fail_after(LIMIT_S):
                # Nothing tells when the last of them has come.
                while feed.browsers < MAX_BROWSERS:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
                assert (await client.get("/events")).status_code == 503
            feed.close()


class TestSlowBrowser:
    async def test_is_dropped_and_gets_the_state_when_it_returns(self) -> None:
        feed = CaptionFeed()
        with feed.follow() as slow, feed.follow() as quick:
            quick_got = [await quick.receive()]
            for number in range(QUEUE_EVENTS + 5):
                feed.show("Alice", f"word {number}", final=False, lang="en")
                quick_got.append(await quick.receive())
            assert feed.browsers == 1
            # What was queued still comes, then the stream ends.
            slow_got = [event async for event in slow]
            assert len(slow_got) == QUEUE_EVENTS
            assert len(quick_got) == QUEUE_EVENTS + 6
        with feed.follow() as again:
            state = await again.receive()
            assert f"word {QUEUE_EVENTS + 4}" in state
            assert kinds([state]) == ["state"]

    async def test_does_not_hold_up_the_others(self) -> None:
        """One browser's connection is stuck in mid-send; its queue is bounded."""
        feed = CaptionFeed()
        app = page_app(feed)
        stuck = anyio.Event()

        async def receive() -> dict[str, Any]:
            await anyio.sleep_forever()
            raise AssertionError("never")

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                stuck.set()
                await anyio.sleep_forever()

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/events",
            "headers": [(b"host", b"127.0.0.1")],
            "query_string": b"",
        }
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app, scope, receive, send)
            with anyio.fail_after(LIMIT_S):
                await stuck.wait()
                for number in range(QUEUE_EVENTS + 5):
                    feed.show("Alice", f"word {number}", final=False, lang="en")
            assert feed.browsers == 0
            tasks.cancel_scope.cancel()

    async def test_follower_of_a_closed_feed_is_told_at_once(self) -> None:
        feed = CaptionFeed()
        feed.close()
        with feed.follow() as events:
            got = [event async for event in events]
        assert kinds(got) == ["state", "bye"]
        assert feed.browsers == 0
