# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a person sees of the caption page, in a headless browser."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, ViewportSize, async_playwright

from live_transcription.demo.page import CaptionPage

LIMIT_S = 10.0

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"

BROWSER_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

ARTIFACTS = Path(__file__).parents[3] / "artifacts"


@asynccontextmanager
async def chromium(
    page: CaptionPage, *, reduced: bool = False, **size: int
) -> AsyncGenerator[Page, None]:
    """The page in a headless browser; errors of its script fail the test."""
    errors: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=BROWSER_ARGS
        )
        tab = await browser.new_page(
            viewport=ViewportSize(
                width=size.get("width", 1280), height=size.get("height", 800)
            ),
            reduced_motion="reduce" if reduced else "no-preference",
        )
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on(
            "console",
            lambda said: errors.append(said.text) if said.type == "error" else None,
        )
        tab.set_default_timeout(LIMIT_S * 1000)
        await tab.goto(page.url)
        await tab.wait_for_selector("#connection[data-state=live]")
        yield tab
        await browser.close()
    assert errors == []


async def screenshot(tab: Page, name: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    await tab.screenshot(path=ARTIFACTS / f"{name}.png")


@pytest.mark.browser
class TestBrowser:
    async def test_shows_speaker_and_caption(self) -> None:
        async with (
            CaptionPage(people=["Alice Martin", "Ben Keller"]) as page,
            chromium(page) as tab,
        ):
            page.set_status("embedded signaling server, recogniser: none")
            page.show("Alice Martin", "good morning", True, "en")
            page.show("Alice Martin", "can you", False, "en")
            page.show("Ben Keller", "bonjour", True, "fr")
            await tab.wait_for_selector(".block:nth-child(2) .final")
            shown = await tab.locator(".block").all_inner_texts()
            assert [" ".join(text.split()) for text in shown] == [
                "AM Alice Martin Good morning can you",
                "BK Ben Keller Bonjour",
            ]
            assert await tab.locator(".partial").inner_text() == "can you"
            assert await tab.locator(".final[lang=fr]").text_content() == "bonjour"
            assert "can be wrong" in await tab.locator("footer").inner_text()
            assert "embedded" in await tab.locator("#status").inner_text()
            dim, plain = [
                await tab.locator(kind).first.evaluate("e => getComputedStyle(e).color")
                for kind in (".partial", ".final")
            ]
            assert dim != plain
            await screenshot(tab, "caption-page")

    async def test_screen_readers_hear_finals_only(self) -> None:
        async with CaptionPage() as page, chromium(page) as tab:
            page.show("Alice", "good mor", False, "en")
            await tab.wait_for_selector(".partial")
            log = tab.get_by_role("log")
            assert await log.inner_text() == ""
            assert await log.get_attribute("aria-live") == "polite"
            page.show("Alice", "good morning", True, "en")
            page.show("Alice", "how are", False, "en")
            await tab.get_by_text("how are").wait_for()
            assert await log.locator("p").all_inner_texts() == ["Alice: good morning"]
            assert await log.locator("span").get_attribute("lang") == "en"
            assert await tab.locator("#box").get_attribute("aria-hidden") == "true"

    async def test_at_most_four_lines_and_the_newest_in_sight(self) -> None:
        async with CaptionPage() as page, chromium(page, reduced=True) as tab:
            for number in range(12):
                page.show("Alice", f"sentence {number} with some words", True, "en")
            await tab.get_by_text("sentence 11").first.wait_for()
            text = tab.locator(".text")
            line = await text.evaluate(
                "e => parseFloat(getComputedStyle(e).lineHeight)"
            )
            box = await tab.locator("#blocks").bounding_box()
            assert box is not None
            # One line is the name's, which stays in sight.
            assert box["height"] == pytest.approx(5 * line, abs=1)
            last = await tab.locator(".final").last.bounding_box()
            name = await tab.locator(".block .name").bounding_box()
            assert last is not None and name is not None
            assert last["y"] + last["height"] <= box["y"] + box["height"] + 1
            assert name["y"] >= box["y"] - 1

    async def test_text_size_by_keyboard_and_remembered(self) -> None:
        async with CaptionPage() as page, chromium(page) as tab:
            size = "e => parseFloat(getComputedStyle(e).fontSize)"
            before = await tab.locator("#box").evaluate(size)
            await tab.keyboard.press("Tab")
            await tab.keyboard.press("Tab")
            await tab.keyboard.press("Enter")
            assert await tab.locator("#size-now").inner_text() == "125 %"
            after = await tab.locator("#box").evaluate(size)
            assert after == pytest.approx(1.25 * before, abs=0.1)
            await tab.reload()
            await tab.wait_for_selector("#connection[data-state=live]")
            assert await tab.locator("#size-now").inner_text() == "125 %"

    async def test_reduced_motion_is_respected(self) -> None:
        motion = "e => getComputedStyle(e).scrollBehavior"
        async with CaptionPage() as page:
            async with chromium(page) as tab:
                assert await tab.locator("#blocks").evaluate(motion) == "smooth"
            async with chromium(page, reduced=True) as tab:
                assert await tab.locator("#blocks").evaluate(motion) == "auto"

    async def test_text_is_never_markup(self) -> None:
        async with CaptionPage() as page, chromium(page) as tab:
            page.show("<b>Eve</b>", "<img src=x onerror=alert(1)>", True, "en")
            await tab.get_by_text("<img src=x").first.wait_for()
            assert await tab.locator("img, b").count() == 0

    async def test_end_is_shown_and_nothing_reconnects(self) -> None:
        page = CaptionPage()
        await page.__aenter__()
        async with chromium(page) as tab:
            page.show("Alice", "goodbye", True, "en")
            await page.__aexit__(None, None, None)
            await tab.wait_for_selector("#connection[data-state=ended]")
            assert await tab.locator(".final").text_content() == "goodbye"

    async def test_narrow_window(self) -> None:
        async with (
            CaptionPage(people=["Alice Martin", "Ben Keller"]) as page,
            chromium(page, width=390, height=780) as tab,
        ):
            page.show("Alice Martin", "a long word: " + "m" * 60, True, "en")
            await tab.wait_for_selector(".final")
            wider = await tab.evaluate(
                "document.documentElement.scrollWidth > window.innerWidth"
            )
            assert wider is False
            await screenshot(tab, "caption-page-narrow")
