# SPDX-License-Identifier: MIT
"""An asyncio event loop whose clock jumps, so that long waits cost no time.

While something is ready it is run; when nothing is, the clock goes forward to the
next timer at once. `anyio.current_time`, `asyncio.sleep`, time-outs and the
keepalive of `websockets` all follow it, because they ask the loop for the time.
Nothing else does: `time.monotonic` and other threads keep real time.

Real sockets work on it: before each jump the loop looks whether one has something
to say, and gives the kernel a moment to deliver. Both ends of a connection should
live on this loop; a peer in another process cannot follow the jumps (hold the
clock with `VirtualTimeLoop.held` while waiting for one).

A whole test on it, through anyio's pytest plugin:

```python
@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})
```

and without a plugin: `run_virtual(main)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import selectors
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import Context
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

from attrs import define

__all__ = ["VirtualDeadlock", "VirtualTimeLoop", "run_virtual"]

T = TypeVar("T")
Args = TypeVarTuple("Args")

LONG_JUMP_S = 1.0
"""A jump from this length on is worth ten times the patience with sockets: a late
packet would find time-outs already over."""
PATIENCE_FACTOR = 10
REAL_SLICE_S = 0.02
"""Longest real sleep before threads are looked at again."""


class VirtualDeadlock(RuntimeError):
    """Nothing on the loop can ever go on; a test that would hang for ever."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits for its own timers.

    The clock stands still while a worker thread of this loop runs
    (`anyio.to_thread`, `run_in_executor`, name look-ups), and begins at 1 000 s so
    that nobody takes it for the real one.

    Args:
        socket_poll_s: Real seconds given to open sockets before each jump; ten
            times as many before jumps of a second and more. 0 only looks.
        real_limit_s: Real seconds to wait for a socket or a thread when there is
            no timer to jump to (or a thread runs), before `VirtualDeadlock`.
        horizon_s: Loop seconds that may pass altogether before `VirtualDeadlock`;
            it ends tests in which only periodic timers are left. None for never.
    """

    def __init__(
        self,
        *,
        socket_poll_s: float = 0.0002,
        real_limit_s: float = 30.0,
        horizon_s: float | None = 100_000.0,
    ) -> None:
        start = 1_000.0
        self._clock = _Clock(
            now=start, end=None if horizon_s is None else start + horizon_s
        )
        self._threads = _Threads(loop=self)
        super().__init__(
            _JumpingSelector(
                self._clock,
                self._threads,
                socket_poll_s=socket_poll_s,
                limit=real_limit_s,
            )
        )

    def time(self) -> float:
        """The loop's own time in seconds; jumps, never goes back."""
        return self._clock.now

    def advance(self, seconds: float) -> None:
        """Set the clock forward, as if the process had been stopped that long.

        Timers in between become due together, as after a suspended laptop.

        Raises:
            ValueError: If `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError("time does not go back")
        self._clock.now += seconds

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Stop the clock while something outside the loop works.

        For subprocesses and threads that the loop did not start. Timers do not
        fire in the meantime; what waits for one inside waits until
        `VirtualDeadlock`.
        """
        self._threads.held += 1
        try:
            yield
        finally:
            self._threads.held -= 1

    def call_at(
        self,
        when: float,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """As in asyncio; a timer at infinity (`sleep_forever`) is not kept."""
        if math.isinf(when):
            return asyncio.TimerHandle(when, callback, args, self, context)
        return super().call_at(when, callback, *args, context=context)

    async def shutdown_default_executor(self, *args: Any) -> None:
        """As in asyncio; it waits for a thread, so the clock stands still."""
        with self.held():
            await super().shutdown_default_executor(*args)

    def run_in_executor(  # type: ignore[override]  # typeshed: Future, not Awaitable
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """As in asyncio; the clock stands still until the call has returned."""
        future = super().run_in_executor(executor, func, *args)
        self._threads.held += 1
        future.add_done_callback(self._threads.release)
        return future


@define
class _Clock:
    now: float
    end: float | None


@define
class _Threads:
    """Knows whether work outside the loop is going on."""

    loop: asyncio.AbstractEventLoop
    held: int = 0

    def busy(self) -> bool:
        return bool(self.held) or any(map(self._works_here, threading.enumerate()))

    def release(self, _: object) -> None:
        self.held -= 1

    def _works_here(self, thread: threading.Thread) -> bool:
        # anyio keeps its worker threads for later calls; one that works has an
        # unfinished entry in its queue (anyio 4.4 to 4.16, `WorkerThread`).
        if getattr(thread, "loop", None) is not self.loop:
            return False
        queue = getattr(thread, "queue", None)
        return bool(getattr(queue, "unfinished_tasks", 0))


class _JumpingSelector(selectors.BaseSelector):
    """Waits for nothing: when no socket is ready it moves the clock instead.

    asyncio computes how long it may sleep and asks the selector to; that makes
    `select` the one place where time can pass.
    """

    def __init__(
        self, clock: _Clock, threads: _Threads, *, socket_poll_s: float, limit: float
    ) -> None:
        self._real = selectors.DefaultSelector()
        self._clock = clock
        self._threads = threads
        self._socket_poll_s = socket_poll_s
        self._limit = limit

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if self._threads.busy():
            return self._wait_really(while_busy=timeout is not None)
        # One registered descriptor is the loop's own way to be woken.
        has_sockets = len(self._real.get_map()) > 1
        if timeout is None:
            if not has_sockets:
                raise VirtualDeadlock(
                    "dead-lock: every task waits, and there is no timer, socket or"
                    " thread left that could wake one"
                )
            return self._wait_really(while_busy=False)
        if has_sockets:
            ready = self._poll(timeout)
        if not ready:
            self._jump(timeout)
        return ready

    def _poll(self, jump: float) -> list[tuple[selectors.SelectorKey, int]]:
        long = jump >= LONG_JUMP_S
        patience = self._socket_poll_s * (PATIENCE_FACTOR if long else 1)
        if patience:
            # A sleep rather than a select: epoll knows whole milliseconds only.
            time.sleep(patience)
        return self._real.select(0)

    def _jump(self, seconds: float) -> None:
        self._clock.now += seconds
        if self._clock.end is not None and self._clock.now > self._clock.end:
            raise VirtualDeadlock(
                "dead-lock: only timers have fired for a very long virtual time"
                " (see `horizon_s`)"
            )

    def _wait_really(
        self, *, while_busy: bool
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for an event in real time; `while_busy`: or until threads are idle."""
        give_up = time.monotonic() + self._limit
        while time.monotonic() < give_up:
            ready = self._real.select(REAL_SLICE_S)
            if ready or (while_busy and not self._threads.busy()):
                return ready
        raise VirtualDeadlock(
            f"dead-lock: no socket and no thread did anything for"
            f" {self._limit:g} real seconds, and no timer may fire"
        )

    # The rest is the real selector's.

    def register(
        self, fileobj: Any, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(
        self, fileobj: Any, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.get_key(fileobj)

    def close(self) -> None:
        self._real.close()


def run_virtual(
    function: Callable[[*Args], Awaitable[T]],
    *args: *Args,
    loop_factory: Callable[[], VirtualTimeLoop] = VirtualTimeLoop,
) -> T:
    """Run an async function on a loop of its own, in virtual time.

    Args:
        function: What to run.
        args: Its arguments.
        loop_factory: Makes the loop, where another than the default is wanted
            (`functools.partial(VirtualTimeLoop, horizon_s=…)`).

    Returns:
        What the function returned.

    Raises:
        VirtualDeadlock: If it can never finish.
    """
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(_awaited(partial(function, *args)))


async def _awaited(function: Callable[[], Awaitable[T]]) -> T:
    return await function()
