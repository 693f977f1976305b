"""`kyutai-stream doctor`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from typer.testing import Result

from kyutai_stream import (
    AuthError,
    Backend,
    Capabilities,
    CapacityError,
    ConfigError,
    ConnectFailed,
    Connection,
    ConnectRequest,
)
from kyutai_stream.cli._checks import Check
from kyutai_stream.cli._doctor import Doctor
from kyutai_stream.cli._settings import BackendChoice
from kyutai_stream.testing import ConnectionScript, ScriptedBackend
from kyutai_stream.testing.virtual_time import VirtualTimeLoop

Program = Callable[..., "subprocess.CompletedProcess[str]"]
Invoke = Callable[..., Result]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Two seconds of silence at the pace of speech cost no time."""
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


class Given(BackendChoice):
    """A choice that is made already."""

    def __init__(self, backend: Backend | Exception, **config: object) -> None:
        super().__init__(name="given", typed=config)
        object.__setattr__(self, "given", backend)

    given: Backend | Exception

    def build(self) -> Backend:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


async def examine(
    backend: Backend | Exception,
    *,
    language: str | None = None,
    wait_s: float = 120.0,
    **config: object,
) -> dict[str, Check]:
    said: list[Check] = []
    doctor = Doctor(Given(backend, **config), language, wait_s, said.append)
    await doctor.examine()
    assert said == doctor.checks
    found = {check.name: check for check in said}
    assert len(found) == len(said)
    return found


def verdicts(checks: dict[str, Check]) -> dict[str, str]:
    return {name: check.verdict for name, check in checks.items()}


async def test_all_is_well() -> None:
    backend = ScriptedBackend()
    found = await examine(backend, url="wss://stt.example.org/api")
    assert verdicts(found) == {
        "backend loads": "ok",
        "address": "ok",
        "connects": "ok",
        "key": "ok",
        "ready": "ok",
        "keeps up": "ok",
        "last words": "ok",
        "other sample rates": "ok",
    }
    assert "25 of 25 frames" in found["keeps up"].found
    (connection,) = backend.connections
    assert len(connection.frames) == 25 + 6 + 3
    assert not any(frame.any() for frame in connection.frames)
    assert backend.open == 0


async def test_what_flushes_by_itself_gets_no_silence_for_it() -> None:
    capabilities = Capabilities(self_flushing=True, nominal_delay_s=0.48)
    backend = ScriptedBackend(capabilities=capabilities)
    found = await examine(backend)
    assert len(backend.connections[0].frames) == 25
    assert found["keeps up"].verdict == "skipped"


@pytest.mark.parametrize(
    ("error", "name", "fix"),
    [
        (AuthError("refused (401)"), "key", "--api-key"),
        (ConnectFailed("no route"), "connects", "is the server running"),
        (CapacityError("all full"), "connects", "another server"),
        (ConfigError("no such path"), "connects", "--url"),
    ],
)
async def test_refusals(error: Exception, name: str, fix: str) -> None:
    backend = ScriptedBackend(ConnectionScript(refuse=error))
    found = await examine(backend)
    assert found[name].verdict == "failed"
    assert str(error) in found[name].found
    assert fix in found[name].fix
    # What does not need the server is looked at all the same.
    assert found["other sample rates"].verdict == "ok"
    assert "ready" not in found


async def test_a_server_that_never_gets_ready() -> None:
    backend = ScriptedBackend(ConnectionScript(never_ready=True))
    began = anyio.current_time()
    found = await examine(backend, wait_s=30.0)
    assert anyio.current_time() - began == pytest.approx(30.0, abs=0.1)
    assert found["ready"].verdict == "failed"
    assert "nothing came for 30 s" in found["ready"].found
    assert "--wait" in found["ready"].fix
    assert backend.open == 0


class Waking(ScriptedBackend):
    """Needs a while to wake up."""

    @asynccontextmanager
    async def connect(
        self, request: ConnectRequest
    ) -> AsyncGenerator[Connection, None]:
        await anyio.sleep(42.0)
        async with super().connect(request) as connection:
            yield connection


async def test_a_cold_start_is_a_remark_with_its_time() -> None:
    found = await examine(Waking())
    assert found["ready"].verdict == "remark"
    assert "42.0 s (cold start)" in found["ready"].found
    assert "failed" not in verdicts(found).values()


@pytest.mark.parametrize(
    ("script", "name", "words"),
    [
        (ConnectionScript(lose_after=10), "keeps up", "lost, as scripted"),
        (ConnectionScript(confirm_flush=False), "last words", "no confirmation"),
        (ConnectionScript(stop_reading_after=10), "keeps up", "took no more"),
    ],
)
async def test_trouble_after_the_beginning(
    script: ConnectionScript, name: str, words: str
) -> None:
    backend = ScriptedBackend(script)
    found = await examine(backend)
    assert found[name].verdict == "failed"
    assert words in found[name].found
    assert found[name].fix
    assert backend.open == 0


async def test_a_model_that_stands_still() -> None:
    class Stuck(ScriptedBackend):
        """Claims to acknowledge, and never does."""

        @asynccontextmanager
        async def connect(
            self, request: ConnectRequest
        ) -> AsyncGenerator[Connection, None]:
            claims, self.capabilities = self.capabilities, Capabilities()
            async with super().connect(request) as connection:
                yield _Claiming(connection, claims)

    found = await examine(Stuck())
    assert found["keeps up"].verdict == "failed"
    assert "0 of 25" in found["keeps up"].found


class _Claiming:
    def __init__(self, inner: Connection, claims: Capabilities) -> None:
        self._inner = inner
        self._claims = claims

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        from attrs import evolve

        from kyutai_stream.backend import Ready

        async for event in self._inner:
            if isinstance(event, Ready):
                yield evolve(event, capabilities=self._claims)
            else:
                yield event


async def test_a_backend_that_cannot_be_built() -> None:
    found = await examine(ConfigError("no model 'x'"))
    assert verdicts(found) == {
        "backend loads": "failed",
        "address": "skipped",
        "other sample rates": "ok",
    }


async def test_a_language_it_does_not_speak() -> None:
    backend = ScriptedBackend(capabilities=Capabilities(languages=("en", "fr")))
    found = await examine(backend, language="de")
    assert found["language"].verdict == "failed"
    assert "en, fr" in found["language"].fix
    assert "language" not in await examine(backend, language="fr")


async def test_a_backend_that_recognises_nothing_is_a_remark() -> None:
    backend = ScriptedBackend(capabilities=Capabilities(transcribes=False))
    assert (await examine(backend))["recognises speech"].verdict == "remark"


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("ws://localhost:8080", "ok"),
        ("wss://stt.example.org", "ok"),
        ("ws://stt.example.org", "remark"),
        ("ws://127.0.0.1:1,http://10.0.0.1", "remark"),
        ("stt.example.org", "failed"),
        ("ftp://stt.example.org", "failed"),
        ("ws://", "failed"),
        ("ws://a b", "failed"),
        ("ws://host:99999", "failed"),
        ("wss://" + "a" * 64 + ".example.org", "failed"),
    ],
)
async def test_addresses(url: str, verdict: str) -> None:
    found = await examine(ScriptedBackend(), url=url)
    assert found["address"].verdict == verdict


@pytest.mark.parametrize(("used", "verdict"), [(3, "ok"), (8, "remark")])
async def test_free_places(used: int, verdict: str) -> None:
    class Places(ScriptedBackend):
        async def slots(self) -> dict[str, Any]:
            from types import SimpleNamespace

            return {"ws://one": SimpleNamespace(used=used, total=8)}

    found = await examine(Places())
    assert found["free places"].verdict == verdict
    assert f"{used} of 8" in found["free places"].found


async def test_places_that_are_not_told_are_no_failure() -> None:
    class Places(ScriptedBackend):
        async def slots(self) -> dict[str, Any]:
            raise ConnectFailed("404")

    assert (await examine(Places()))["free places"].verdict == "remark"


class TestProgram:
    def test_it_prints_and_ends_with_0(self, program: Program) -> None:
        done = program("doctor", "-b", "picky-test")
        assert done.returncode == 0, done.stderr
        assert "ok  keeps up: 25 of 25 frames" in done.stdout

    def test_it_ends_with_1_and_keeps_the_key_to_itself(self, invoke: Invoke) -> None:
        done = invoke("doctor", "-b", "locked-test", "--api-key", "hunter2", "--json")
        assert done.exit_code == 1
        report = json.loads(done.stdout)
        assert report["ok"] is False
        (failed,) = (one for one in report["checks"] if one["verdict"] == "failed")
        assert failed["name"] == "key"
        assert "hunter2" not in done.output

    def test_the_table_says_what_to_do(self, invoke: Invoke) -> None:
        done = invoke("doctor", "-b", "locked-test")
        assert "FAILED  key: key refused (401)" in done.stdout
        assert "→ check the key: --api-key" in done.stdout
