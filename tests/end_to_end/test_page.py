"""The demo's page as a person opens it while people speak."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream
from playwright.async_api import async_playwright, expect

from live_transcription.demo.clips import bundled_clips

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
BROWSER_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


async def page_address(demo: Process) -> str:
    """Where the demo says that its page is."""
    assert demo.stderr is not None
    said = ""
    with anyio.fail_after(40):
        async for text in TextReceiveStream(demo.stderr):
            said += text
            found = re.search(r"http://127\.0\.0\.1:\d+/", said)
            if found:
                return found[0]
    raise AssertionError(f"the demo named no page: {said}")


@pytest.mark.browser
@pytest.mark.timeout(120)
async def test_captions_appear_under_the_speakers_name() -> None:
    clip = bundled_clips()[0]
    assert clip.text is not None
    first_word = clip.text.split()[0].lower()
    async with (
        await anyio.open_process(
            [sys.executable, "-m", "live_transcription", "demo"]
            + ["--signaling", "embedded"],
            stdout=subprocess.DEVNULL,
        ) as demo,
        async_playwright() as playwright,
    ):
        address = await page_address(demo)
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=BROWSER_ARGS
        )
        tab = await browser.new_page()
        await tab.goto(address)
        box = tab.locator("#blocks")
        word = re.compile(first_word, re.IGNORECASE)
        await expect(box).to_contain_text(word, timeout=40_000)
        await expect(box).to_contain_text(clip.name)
        # Screen readers hear finals only.
        await expect(tab.get_by_role("log")).to_contain_text(word, timeout=20_000)
        ARTIFACTS.mkdir(exist_ok=True)
        await tab.screenshot(path=ARTIFACTS / "demo-page.png")
        await browser.close()
        demo.terminate()
