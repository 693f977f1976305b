# SPDX-License-Identifier: MIT
"""A headless Chromium that publishes a sound file as its microphone."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from attrs import field, frozen

from ...errors import MediaError, SignalingError, UsageError
from ..nextcloud import Member

if TYPE_CHECKING:
    # Imported where used: it is no dependency of the package.
    from playwright.async_api import Page

__all__ = ["BrowserPublisher", "BrowserUnavailable", "Negotiated", "Sent"]

_SCRIPT = Path(__file__).with_name("publisher.js")

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    # The signaling server drops candidates with names of mDNS.
    "--disable-features=WebRtcHideLocalIpsWithMdns",
)

_CALL_LIMIT_S = 60.0
"""For one step of the browser, on a machine that is busy with other things."""

_CLOSE_LIMIT_S = 10.0


class BrowserUnavailable(SignalingError):
    """This machine has no browser that can be driven; `reason` says what is missing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"no browser here: {self.reason}"


@frozen(kw_only=True)
class Negotiated:
    """What browser and SFU agreed upon."""

    offer: str = field(repr=False)
    """SDP of the browser."""
    answer: str = field(repr=False)
    """SDP of the SFU, as the browser took it."""


@frozen(kw_only=True)
class Sent:
    """What the browser says that it sent (`outbound-rtp` of its statistics)."""

    packets: int
    payload_bytes: int


class BrowserPublisher:
    """A member of a room, in a headless Chromium, with a sound file as microphone.

        async with BrowserPublisher(hpb.url, alice, Path("speech.wav")) as browser:
            await nextcloud.join_call(alice)
            await browser.publish()
            await browser.speak()

    It does what Talk's web client does: browser defaults for the microphone and the
    offer, a data channel, and no track while muted. Entering starts the browser
    (seconds) and joins the room. The microphone plays the file once and is silent
    afterwards.

    Args:
        server_url: Base URL of the signaling server, on this machine: only there
            browsers give pages without TLS a microphone.
        member: Who it is.
        speech: A WAV file of 16 bits; 48 kHz needs no conversion.
        processing: Whether the browser cancels echo, reduces noise and controls the
            level, as Talk lets it. Off, the file is sent as it is.
        dtx: Whether the browser is told that the SFU wants discontinuous
            transmission, which Janus 1.1 by itself does not say.
        reroute: Given the SFU's address and port, returns where media goes instead,
            for a bad network in between. The SFU then learns no address from the
            browser but the one that media comes from.

    Raises:
        BrowserUnavailable: On entering, if there is no Chromium or no playwright.
        MediaError: On entering, if the browser cannot start or join.
        UsageError: If the file does not exist.
    """

    def __init__(
        self,
        server_url: str,
        member: Member,
        speech: Path,
        *,
        processing: bool = True,
        dtx: bool = False,
        reroute: Callable[[str, int], Awaitable[tuple[str, int]]] | None = None,
    ) -> None:
        if not speech.is_file():
            raise UsageError(f"no such file: {speech}")
        self.version = ""
        """Version of the browser, once entered."""
        self._server_url = server_url.rstrip("/")
        self._member = member
        self._speech = speech.resolve()
        self._options = {"processing": processing, "dtx": dtx}
        self._reroute = reroute
        self._stack = AsyncExitStack()
        self._page: Page | None = None

    async def __aenter__(self) -> BrowserPublisher:
        executable = next(filter(None, map(shutil.which, _NAMES)), None)
        if executable is None:
            raise BrowserUnavailable("Chromium is not installed")
        try:
            await self._open(executable)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def _open(self, executable: str) -> None:
        try:
            from playwright.async_api import Error, async_playwright
        except ImportError as exc:
            raise BrowserUnavailable("run `pip install playwright`") from exc

        microphone = f"--use-file-for-fake-audio-capture={self._speech}%noloop"
        try:
            # Cancelled while it starts, playwright would lose its driver's process.
            with anyio.CancelScope(shield=True), anyio.fail_after(_CALL_LIMIT_S):
                playwright = await self._stack.enter_async_context(async_playwright())
            await anyio.lowlevel.checkpoint()
            browser = await playwright.chromium.launch(
                executable_path=executable,
                args=[*_ARGUMENTS, microphone],
                timeout=_CALL_LIMIT_S * 1000,
            )
            self._stack.push_async_callback(browser.close)
            self.version = browser.version
            self._page = page = await browser.new_page()
            if self._reroute is not None:
                await page.expose_function("reroute", self._reroute)
                self._options["rerouted"] = True
            # Any page of the server will do: its origin counts as secure.
            page.set_default_timeout(_CALL_LIMIT_S * 1000)
            await page.goto(f"{self._server_url}/api/v1/welcome")
            await page.add_script_tag(content=_SCRIPT.read_text())
        except Error as exc:
            raise MediaError(f"the browser did not start: {exc.message}") from exc
        except TimeoutError:
            raise MediaError("the browser's driver did not start in time") from None
        await self._join()

    async def _join(self) -> None:
        auth = self._member.auth.hello_auth()
        await self._call(
            "join",
            f"{self._server_url.replace('http', 'ws', 1)}/spreed",
            {"url": auth.url, "params": auth.params},
            self._member.room_token,
            self._member.nc_session_id,
            self._options,
        )

    async def _close(self) -> None:
        """End the browser, also when cancelled."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(_CLOSE_LIMIT_S):
            await self._stack.aclose()
        self._page = None

    async def _call(self, method: str, *arguments: Any) -> Any:
        """Call a function of the script and wait for what it promises."""
        from playwright.async_api import Error

        if self._page is None:
            raise UsageError("the browser is used outside of its context")
        call = "([method, given]) => publisher[method](...given)"
        try:
            with anyio.fail_after(_CALL_LIMIT_S):
                return await self._page.evaluate(call, [method, arguments])
        except TimeoutError:
            raise MediaError(f"the browser did not {method} in time") from None
        except Error as exc:
            raise MediaError(f"the browser did not {method}: {exc.message}") from exc

    async def publish(self) -> Negotiated:
        """Open the microphone, which starts to play, and publish it.

        Returns:
            The two descriptions, once media can flow.

        Raises:
            MediaError: If the server refuses or media finds no way.
            UsageError: If the browser is not running.
        """
        answer = await self._call("publish")
        return Negotiated(offer=answer["offer"], answer=answer["answer"])

    async def speak(self) -> None:
        """Play the file from its start; ends a mute.

        Raises:
            MediaError: If the browser fails.
            UsageError: If the browser is not running.
        """
        await self._call("speak")

    async def mute(self) -> None:
        """Mute as Talk does: the connection stays, without a track.

        Raises:
            MediaError: If the browser fails.
            UsageError: If the browser is not running.
        """
        await self._call("mute")

    async def unmute(self) -> None:
        """Send what the microphone is at by now.

        Raises:
            MediaError: If the browser fails.
            UsageError: If the browser is not running.
        """
        await self._call("unmute")

    async def set_enabled(self, enabled: bool) -> None:
        """Disable the track, which then sends silence, or enable it again.

        Raises:
            MediaError: If the browser fails.
            UsageError: If the browser is not running.
        """
        await self._call("setEnabled", enabled)

    async def sent(self) -> Sent:
        """Return what was sent so far.

        Raises:
            MediaError: If the browser fails.
            UsageError: If the browser is not running.
        """
        packets, payload_bytes = await self._call("sent")
        return Sent(packets=packets, payload_bytes=payload_bytes)
