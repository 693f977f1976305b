# SPDX-License-Identifier: MIT
"""A real moshi-server for the length of a context."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
from pathlib import Path
from types import TracebackType

import anyio
import anyio.to_thread
import numpy as np
from attrs import evolve

from ._build import ServerBinary, default_cache, find_server, server_command
from ._config import API_KEY, PATH, server_config
from ._errors import MoshiServerUnavailable, ServerStartFailed
from ._handshake import free_port, http_get, speaks
from ._locks import RunFolder
from ._prepare import unavailable_reason
from ._process import ServerProcess, tail
from ._script import Expected, Speaker
from ._tensors import Array
from ._weights import (
    DELAY,
    ModelFiles,
    ModelKind,
    ensure_weights,
    model_files,
    model_tables,
)

__all__ = ["RealMoshiServer"]

_log = logging.getLogger(__name__)


class RealMoshiServer:
    """moshi-server 0.6.4 on the CPU, with generated weights.

        async with RealMoshiServer(batch_size=2) as server:
            backend = MoshiServerBackend(url=server.url, api_key=server.api_key)

    The model `script` says the same words whatever it hears; `listen` hears the words
    of `kyutai_stream.testing.tones`, so that what comes back proves what was sent.
    `expect` tells what either will say to some audio, step by step.

    The server listens on 127.0.0.1, on a port that it keeps over restarts. It ends
    with the context, also when that is cancelled, and with this process, however
    that ends. A step takes some 60 to 80 ms on two cores whatever `batch_size` up
    to 2, longer beyond: slower than real time on a busy machine, so test counts and
    stream times, never the clock.

    Args:
        batch_size: Streams at a time.
        model: `script` or `listen`.
        extra_heads: False for a model that sends no `Step`, as the 2.6B one.
        port: TCP port; 0 chooses a free one.
        start_timeout_s: Seconds from start to the first `Ready`.
        cache: Folder for server and weights instead of the user's cache.

    Raises:
        MoshiServerUnavailable: On entering, if the server was not built (see
            `prepare`); entering never builds.
        ServerStartFailed: On entering, if it does not come up; with its log.
    """

    api_key = API_KEY
    """The only key that it accepts."""

    def __init__(
        self,
        *,
        batch_size: int = 2,
        model: ModelKind = "script",
        extra_heads: bool = True,
        port: int = 0,
        start_timeout_s: float = 60.0,
        cache: Path | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.model = model
        self.port = port or free_port()
        self._extra_heads = extra_heads
        self._start_timeout_s = start_timeout_s
        self._cache = cache or default_cache()
        self._binary: ServerBinary | None = None
        self._folder: RunFolder | None = None
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        """Address of the stream: `ws://127.0.0.1:PORT/api/asr-streaming`."""
        return f"ws://127.0.0.1:{self.port}{PATH}"

    @property
    def http_url(self) -> str:
        """Address for `/api/modules_info`, `/api/build_info` and `/metrics`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """What the server printed; gone when the context ends.

        It holds the key and the times of all steps, but nothing of what was said.
        """
        return self._run_folder / "server.log"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        return self._running.pid

    def expect(self, samples: Array | None = None, *, steps: int = 0) -> list[Expected]:
        """Tell what one stream says, from `Ready` or its last reset on.

        Args:
            samples: What it hears: mono PCM, float32, 24 000 Hz, shape `(n,)`, whole
                frames.
            steps: Frames of silence after that; the model `script` hears nothing
                else, so that alone is enough for it.
        """
        silence = np.zeros(1920 * steps, np.float32)
        heard = silence if samples is None else np.concatenate((samples, silence))
        return self.speaker().push(heard)

    def speaker(self) -> Speaker:
        """Return a twin of one stream, to be fed piece by piece."""
        return Speaker(*model_tables(self.model), DELAY)

    async def used_slots(self) -> int:
        """Ask the server how many streams are open.

        Raises:
            OSError: If it does not answer properly within 5 seconds.
        """
        return int((await self._module())["used_slots"])

    async def wait_used_slots(self, count: int, timeout_s: float = 30.0) -> None:
        """Wait until so many streams are open.

        Raises:
            TimeoutError: If that is not so within `timeout_s` seconds.
        """
        with anyio.fail_after(timeout_s):
            # The server cannot tell by itself when a slot gets free.
            while await self.used_slots() != count:  # noqa: ASYNC110
                await anyio.sleep(0.02)

    async def kill(self) -> None:
        """End the server with SIGKILL; connections are reset."""
        await self._stop(kill=True)

    async def stop(self) -> None:
        """End the server with SIGTERM; harmless when it is down."""
        await self._stop(kill=False)

    async def start(self) -> None:
        """Start the server again at its old address; wait for its first `Ready`.

        Raises:
            ServerStartFailed: If it does not come up.
        """
        if self._binary is None:
            raise AssertionError("RealMoshiServer is used outside of its context")
        if self._process is not None:
            raise AssertionError("the server is running")
        command = server_command(
            self._binary,
            *("worker", "--cpu", "--addr", "127.0.0.1", "--port", str(self.port)),
            *("--config", str(self._run_folder / "stt.toml")),
        )
        process = ServerProcess(command, self.log_path)
        self._process = process
        await process.start()
        await process.wait_ready(self._answers, self._start_timeout_s)

    async def restart(self, *, kill: bool = False) -> None:
        """`stop` or `kill`, then `start`."""
        await self._stop(kill=kill)
        await self.start()

    def pause(self) -> None:
        """Stop the process as it is: a server that hangs, its sockets open."""
        self._running.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server continue."""
        self._running.send(signal.SIGCONT)

    def log_tail(self) -> str:
        """Return the last lines of the server's output."""
        return tail(self.log_path)

    async def __aenter__(self) -> RealMoshiServer:
        self._binary = await anyio.to_thread.run_sync(find_server, self._cache)
        if self._binary is None:
            reason = await anyio.to_thread.run_sync(unavailable_reason, self._cache)
            raise MoshiServerUnavailable(reason or "moshi-server does not start")
        weights = await ensure_weights(self._cache, _log.info)
        self._folder = RunFolder()
        try:
            self._configure(model_files(weights, self.model))
            await self.start()
        except BaseException:
            await self._close()
            raise
        return self

    def _configure(self, files: ModelFiles) -> None:
        folder = self._run_folder
        (folder / "static").mkdir()
        # A path of this run's own, by which the server can be told from others.
        lm = folder / "lm.safetensors"
        lm.symlink_to(files.lm)
        config = server_config(
            evolve(files, lm=lm),
            folder=folder,
            batch_size=self.batch_size,
            extra_heads=self._extra_heads,
        )
        (folder / "stt.toml").write_text(config)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        await self._stop(kill=True)
        if self._folder is not None:
            self._folder.remove()
        self._folder = self._binary = None

    async def _stop(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.stop(kill=kill)

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            # On a given port another server may answer until ours fails to bind it.
            if not (await self._module())["lm"].startswith(str(self._run_folder)):
                return False
            await speaks("127.0.0.1", self.port, f"{PATH}?auth_id={API_KEY}")
            # The slot of that stream must be free for the tests.
            await self.wait_used_slots(0)
            return True
        return False

    async def _module(self) -> dict[str, str]:
        status, body = await http_get("127.0.0.1", self.port, "/api/modules_info")
        if status != 200:
            raise OSError(f"HTTP {status}")
        modules: list[dict[str, str]] = json.loads(body)
        return modules[0]

    @property
    def _running(self) -> ServerProcess:
        if self._process is None:
            raise ServerStartFailed("it is not running", "")
        return self._process

    @property
    def _run_folder(self) -> Path:
        if self._folder is None:
            raise AssertionError("RealMoshiServer is used outside of its context")
        return self._folder.path
