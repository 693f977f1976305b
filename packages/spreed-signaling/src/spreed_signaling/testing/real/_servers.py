# SPDX-License-Identifier: MIT
"""A real signaling server with a real Janus for the length of a context."""

from __future__ import annotations

import logging
import secrets
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Literal, TypeVar

import anyio

from ...errors import UsageError
from ._configs import hpb_config
from ._errors import RealServersUnavailable
from ._hpb import Hpb
from ._ice import own_host_addresses
from ._janus import Janus
from ._locks import RunFolder
from ._network import JanusNetwork, free_port, open_network
from ._packages import (
    Progress,
    default_cache,
    fetch_hpb,
    find_hpb,
    find_janus,
    install_janus,
    unavailable_reason,
)

__all__ = ["HPB_SUITES", "RealServers", "prepare"]

_log = logging.getLogger(__name__)

_Part = TypeVar("_Part")

HPB_SUITES = ("sid", "bookworm-backports")
"""Debian suites whose signaling server is tested against: newest and oldest usable.

Source:
    bookworm itself has 0.4.1, which refuses every publisher (measured).
"""


async def prepare(
    suites: tuple[str, ...] = HPB_SUITES,
    *,
    progress: Progress = _log.info,
    cache: Path | None = None,
) -> None:
    """Fetch everything that `RealServers` needs; quick when it is there.

    The signaling server goes into the user's cache; Janus is installed as a Debian
    package when missing, which needs root.

    Args:
        suites: Debian suites to take the signaling server from.
        progress: Called with one line of text per step that does something.
        cache: Folder for downloads instead of the user's cache.

    Raises:
        RealServersUnavailable: If this machine cannot run them or a download fails.
    """
    reason = unavailable_reason()
    if reason is not None:
        raise RealServersUnavailable(reason)
    cache = cache or default_cache()
    for suite in suites:
        if find_hpb(suite, cache) is None:
            await fetch_hpb(suite, cache, progress)
    if find_janus() is None:
        await install_janus(cache, progress)


class RealServers:
    """nextcloud-spreed-signaling and Janus, started for one test or demo.

        async with RealServers(backend_url=nc.url, ...) as hpb:
            ...  # hpb.url

    Janus runs in a network namespace of its own where that is allowed, else on the
    machine's own address. Both servers end with the context, also when it is
    cancelled, and with this process, however that ends. What is missing is
    downloaded first (see `prepare`).

    Args:
        backend_url: Base URL of the (stand-in) Nextcloud.
        backend_secret: Secret shared with it.
        internal_secret: Secret of internal clients.
        port: Port of the signaling server on 127.0.0.1; 0 chooses a free one, which
            is kept over restarts.
        hpb_version: Debian suite to take the signaling server from.
        debug: Whether the signaling server logs verbosely.

    Raises:
        RealServersUnavailable: On entering, if this machine cannot run them.
        ServerStartFailed: On entering, if a server does not come up; with its log.
    """

    kind: ClassVar[Literal["real"]] = "real"

    def __init__(
        self,
        *,
        backend_url: str,
        backend_secret: str,
        internal_secret: str = "the-internal-secret",
        port: int = 0,
        hpb_version: str = "sid",
        debug: bool = False,
    ) -> None:
        self.internal_secret = internal_secret
        self.port = port
        self.version = ""
        """What the server reports about itself, for example `2.0.2-2+b2.debian`."""
        self.janus_version = ""
        """Version of Janus, for example `1.1.2`."""
        self._backend = (backend_url, backend_secret)
        self._suite = hpb_version
        self._debug = debug
        # Kept over restarts: with other keys no session could be resumed, and
        # every attempt would count towards the server's lock-out.
        self._keys = (secrets.token_hex(16), secrets.token_hex(16))
        self._folder: RunFolder | None = None
        self._network: JanusNetwork | None = None
        self._janus: Janus | None = None
        self._hpb: Hpb | None = None

    @property
    def url(self) -> str:
        """Base URL of the signaling server; clients append `/spreed`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def media_address(self) -> str:
        """IPv4 address at which Janus receives and sends media."""
        return _inside(self._network).media_address

    @property
    def host_address(self) -> str:
        """Our own IPv4 address from which `media_address` is reached."""
        return _inside(self._network).host_address

    @property
    def network_kind(self) -> str:
        """`namespace`, or `host` where namespaces are not allowed."""
        return _inside(self._network).kind

    def pinned_ice(self) -> AbstractContextManager[None]:
        """Offer only `host_address` for media while the result is entered."""
        return own_host_addresses(self.host_address)

    def logs(self) -> str:
        """Return everything that both servers logged since entering.

        It holds session ids and, with `debug`, what clients said: for a failing
        test's output, not for keeping.
        """
        if self._folder is None:
            return ""
        logs = ((name, self._folder.path / f"{name}.log") for name in ("janus", "hpb"))
        return "\n".join(
            f"== {name} ==\n{path.read_text(errors='replace')}"
            for name, path in logs
            if path.exists()
        )

    async def __aenter__(self) -> RealServers:
        await prepare((self._suite,), progress=_log.warning)
        package, install = find_hpb(self._suite, default_cache()), find_janus()
        if package is None or install is None:
            raise AssertionError("prepared without servers")
        self._folder = RunFolder()
        path = self._folder.path
        try:
            self._network = await open_network(path / "network.log")
            self._janus = Janus(install, self._network, path)
            self._hpb = Hpb(package, path)
            await self.start_janus()
            await self.start_hpb()
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

    async def _close(self) -> None:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.stop_hpb)
                tasks.start_soon(self.kill_janus)
            self._janus = self._hpb = None
            network, self._network = self._network, None
            if network is not None:
                await network.close()
            if self._folder is not None:
                self._folder.remove()

    async def start_janus(self) -> None:
        """Start Janus at its old address; wait until it takes connections.

        Raises:
            ServerStartFailed: If it does not come up.
            UsageError: If it is running, or outside of the context.
        """
        janus = _inside(self._janus)
        await janus.start()
        self.janus_version = janus.version

    async def kill_janus(self, *, kill: bool = True) -> None:
        """End Janus, with SIGKILL unless told otherwise; harmless when it is down."""
        if self._janus is not None:
            await self._janus.stop(kill=kill)

    async def start_hpb(self, *, internal_secret: str | None = None) -> None:
        """Start the signaling server on its old port; wait until it answers.

        Needs a running Janus: without one the server waits before it listens.

        Args:
            internal_secret: A new internal secret; the old one if not given.

        Raises:
            ServerStartFailed: If it does not come up.
            UsageError: If it is running, or outside of the context.
        """
        hpb, network = _inside(self._hpb), _inside(self._network)
        if hpb.running:
            raise UsageError("the signaling server is running")
        if internal_secret is not None:
            self.internal_secret = internal_secret
        self.port = self.port or free_port()
        config = hpb_config(
            port=self.port,
            backend_url=self._backend[0],
            backend_secret=self._backend[1],
            internal_secret=self.internal_secret,
            janus_url=f"ws://{network.ws_address}:{network.ws_port}",
            hash_key=self._keys[0],
            block_key=self._keys[1],
            debug=self._debug,
        )
        await hpb.start(config, self.url)
        self.version = hpb.version

    async def stop_hpb(self, *, kill: bool = False) -> None:
        """End the signaling server, by SIGTERM or SIGKILL; harmless when it is down."""
        if self._hpb is not None:
            await self._hpb.stop(kill=kill)


def _inside(part: _Part | None) -> _Part:
    """Return what is there between entering and leaving only."""
    if part is None:
        raise UsageError("RealServers is used outside of its context")
    return part
