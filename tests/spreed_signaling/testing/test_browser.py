"""The browser as a member of a call; `tests/end_to_end/test_browser.py` hears it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import anyio
import attrs
import pytest

from spreed_signaling import MediaError, UsageError
from spreed_signaling.testing import open_site
from spreed_signaling.testing.browser import BrowserPublisher, BrowserUnavailable

from ..media.people import write_tone

# Starting a browser takes a while where others work, too.
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    return write_tone(tmp_path / "tone.wav", 440, seconds=2)


async def test_a_missing_file_or_browser_is_named(
    tone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_site() as site:
        alice = site.nextcloud.add_member("demoroom", "alice", "Alice")
        with pytest.raises(UsageError, match="no such file"):
            BrowserPublisher(site.server.url, alice, tone.with_name("none.wav"))
        publisher = BrowserPublisher(site.server.url, alice, tone)
        with pytest.raises(UsageError, match="outside of its context"):
            await publisher.speak()
        monkeypatch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(BrowserUnavailable, match="Chromium is not installed"):
            async with publisher:
                pass


@pytest.mark.browser
async def test_what_the_server_refuses_is_told(tone: Path) -> None:
    async with open_site() as site:
        alice = site.nextcloud.add_member("demoroom", "alice", "Alice")
        forged = attrs.evolve(alice, auth=attrs.evolve(alice.auth, ticket="forged"))
        with pytest.raises(MediaError, match="did not join: .*invalid_ticket"):
            async with BrowserPublisher(site.server.url, forged, tone):
                pass


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.browser
async def test_a_start_that_is_cancelled_leaves_nothing(tone: Path) -> None:
    async with open_site() as site:
        alice = site.nextcloud.add_member("demoroom", "alice", "Alice")

        async def enter() -> None:
            async with BrowserPublisher(site.server.url, alice, tone):
                await anyio.sleep_forever()

        before = children()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(enter)
            with anyio.fail_after(30):
                while children() == before:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            # The driver runs, but takes longer than this to say so.
            await anyio.sleep(0.1)
            tasks.cancel_scope.cancel()
        assert children() == before
