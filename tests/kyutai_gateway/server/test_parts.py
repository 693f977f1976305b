"""Restart rules, the moments of a start, single processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kyutai_gateway
from kyutai_gateway._restarts import RestartPolicy
from kyutai_gateway.child import ChildCommand, run_child
from kyutai_gateway.cold_start import ColdStart, process_age_s

LAUNCHER = Path(kyutai_gateway.__file__).with_name("_launch.py")


def policy(limit: int = 3) -> RestartPolicy:
    return RestartPolicy(limit=limit, window_s=600.0, backoff_s=1.0)


def test_pauses_grow_until_it_gives_up() -> None:
    rules = policy()
    assert [rules.failed(float(at)) for at in range(4)] == [1.0, 2.0, 4.0, None]
    assert rules.count == 3


def test_old_failures_are_forgotten() -> None:
    rules = policy()
    assert [rules.failed(at) for at in (0.0, 300.0, 599.0)] == [1.0, 2.0, 4.0]
    assert rules.failed(600.0) == 4.0
    assert rules.failed(601.0) is None
    assert rules.failed(10_000.0) == 1.0


def test_may_be_told_never_to_restart() -> None:
    assert policy(limit=0).failed(5.0) is None


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(0, 20))
def test_never_more_than_the_limit_in_any_window(gaps: list[float], limit: int) -> None:
    rules = policy(limit)
    now, starts = 0.0, []
    for gap in gaps:
        now += gap
        pause = rules.failed(now)
        if pause is not None:
            assert 0 < pause <= 30.0
            starts.append(now)
    for at in starts:
        assert sum(at - 600 < other <= at for other in starts) <= limit


def test_moments_are_seconds_since_1970_and_differences() -> None:
    start = ColdStart(100.0, age_s=2.5, wall_s=1_000_000.0)
    assert start.mark("exec", 100.25)
    assert start.mark("listen", 106.0)
    assert not start.mark("listen", 107.0)
    assert start.record() == {
        "boot_ts": 999_997.5,
        "exec_ts": 1_000_000.25,
        "exec_s": 2.75,
        "listen_ts": 1_000_006.0,
        "listen_s": 5.75,
        "ready_ts": None,
        "first_word_ts": None,
    }
    with pytest.raises(ValueError, match="lunch"):
        start.mark("lunch", 1.0)


def test_knows_how_old_the_process_is() -> None:
    code = (
        "import time; from kyutai_gateway.cold_start import process_age_s;"
        "time.sleep(0.3); print(process_age_s())"
    )
    age = float(subprocess.check_output([sys.executable, "-c", code]))
    assert 0.3 <= age < 30
    assert process_age_s() > 0


def command(*arguments: str, **changes: object) -> ChildCommand:
    given: dict[str, object] = {"terminate_s": 1.0, **changes}
    return ChildCommand(arguments=("/bin/sh", "-c", *arguments), **given)  # type: ignore[arg-type]  # by name


async def test_keeps_the_last_lines_only() -> None:
    script = "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; printf end"
    async with run_child(command(script)) as child:
        assert await child.wait() == 0
    lines = child.tail().split("\n")
    assert lines[-2:] == ["line 499", "end"] and len(lines) <= 41


async def test_hides_what_is_to_be_hidden() -> None:
    async with run_child(command("echo key=s3cret >&2", hidden=("s3cret",))) as child:
        await child.wait()
    assert child.tail() == "key=…"


async def test_gets_no_more_environment_than_it_is_given() -> None:
    os.environ["A_SECRET"] = "x"  # noqa: TID251
    try:
        async with run_child(command("env", environment={"A": "b"})) as child:
            await child.wait()
    finally:
        del os.environ["A_SECRET"]  # noqa: TID251
    assert "A=b" in child.tail() and "A_SECRET" not in child.tail()


async def test_ends_its_children_too(
    alive: Callable[[int], bool], until: Callable[..., Awaitable[None]]
) -> None:
    async with run_child(command("sleep 1000 & echo $!; wait")) as child:
        await until(lambda: child.tail().strip().isdigit())
        grandchild = int(child.tail())
        assert alive(grandchild)
    await until(lambda: not alive(grandchild))


async def test_ends_one_that_ignores_sigterm(
    alive: Callable[[int], bool], until: Callable[..., Awaitable[None]]
) -> None:
    script = "trap '' TERM; echo deaf; while :; do sleep 1; done"
    async with run_child(command(script, terminate_s=0.2)) as child:
        await until(lambda: child.tail() == "deaf")
        pid = child.pid
        begun = anyio.current_time()
    assert child.status == -9 and not alive(pid)
    assert anyio.current_time() - begun < 5


async def test_a_stopped_one_may_still_end_by_itself(
    until: Callable[..., Awaitable[None]],
) -> None:
    script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done"
    async with run_child(command(script, terminate_s=30.0)) as child:
        await until(lambda: child.tail() == "up")
        os.kill(child.pid, signal.SIGSTOP)
    assert child.status == 7


async def test_an_error_inside_stays_what_it_is() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with run_child(command("sleep 1000")) as child:
            raise LookupError("mine")
    assert child.status == -15


def test_the_launcher_does_not_start_for_a_gateway_that_is_gone() -> None:
    done = subprocess.run(
        [sys.executable, str(LAUNCHER), "1", "/bin/echo", "started"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (127, b"")


def test_the_launcher_says_what_it_cannot_start() -> None:
    done = subprocess.run(
        [sys.executable, str(LAUNCHER), str(os.getpid()), "/nowhere/x"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 127
    assert done.stderr == b"cannot start /nowhere/x: No such file or directory\n"
