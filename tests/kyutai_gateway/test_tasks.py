"""Tasks beside a body: who ends whom, and whose error it is."""

from __future__ import annotations

import anyio
import pytest

from kyutai_gateway._tasks import bare, open_tasks


async def fail() -> None:
    raise KeyError("task")


async def test_tasks_end_with_the_body() -> None:
    with anyio.fail_after(2):
        async with open_tasks() as tasks:
            tasks.start_soon(anyio.sleep_forever)


@pytest.mark.parametrize("error", [ValueError("x"), ExceptionGroup("x", [OSError()])])
async def test_an_error_of_the_body_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        async with open_tasks() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            raise error
    assert caught.value is error


async def test_an_error_of_a_task_ends_the_body_and_comes_out_bare() -> None:
    with pytest.raises(KeyError):
        async with open_tasks() as tasks:
            tasks.start_soon(fail)
            await anyio.sleep_forever()


async def test_an_error_of_a_task_comes_first() -> None:
    error = ValueError("body")
    with pytest.raises(KeyError) as caught:
        async with open_tasks() as tasks:
            tasks.start_soon(fail)
            try:
                await anyio.sleep_forever()
            finally:
                raise error
    assert caught.value.__cause__ is error


def test_bare() -> None:
    inner = OSError()
    group = ExceptionGroup("a", [ExceptionGroup("b", [inner]), ValueError()])
    assert bare(group) is bare(inner) is inner
