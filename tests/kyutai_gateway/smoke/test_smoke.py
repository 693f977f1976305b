"""The checklist finds a good gateway good, and names what is wrong with others."""

from __future__ import annotations

import json
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from attrs import evolve

from kyutai_gateway.app import create_app
from kyutai_gateway.config import from_environment
from kyutai_gateway.servers import server_for
from kyutai_gateway.serving import Serving, serving
from kyutai_gateway.smoke import Finding, Plan, Target, as_line, as_summary, examine
from kyutai_gateway.smoke.__main__ import main
from kyutai_stream.testing.gateway import (
    At,
    Attempt,
    CloseWith,
    Drain,
    FakeGateway,
    StopSteps,
)
from kyutai_stream.testing.moshi_server import STT_2_6B, FakeMoshiServer
from kyutai_stream.testing.tones import speak

KEYS = {"Modal-Key": "wk-good", "Modal-Secret": "ws-good"}
SAID = speak("alpha bravo charlie")
CHECKS = "address keys-missing keys-wrong start livez readyz capacity metrics stream"
CHECKS += " flush ping end speed close-codes idle rotation"


@asynccontextmanager
async def gateway(model: FakeMoshiServer, **variables: str) -> AsyncIterator[Serving]:
    """The real gateway in front of a model that hears tones."""
    given = {"attach_url": model.url, "port": "0", "key": "wk-good"}
    given |= {"secret": "ws-good", **variables}
    settings = from_environment(
        {f"KYUTAI_GATEWAY_{name.upper()}": value for name, value in given.items()}
    )
    async with (
        server_for(settings) as upstream,
        serving(create_app(settings, upstream), settings) as running,
    ):
        yield running


def plan_for(url: str) -> Plan:
    return Plan(
        target=Target(url=url, headers=KEYS), audio=SAID.samples, start_timeout_s=15
    )


async def found(plan: Plan, *, until: str = "") -> dict[str, Finding]:
    """What is found, up to a check."""
    findings = {}
    with anyio.fail_after(50):
        async for finding in examine(plan):
            findings[finding.name] = finding
            if finding.name == until:
                break
    return findings


async def test_a_good_gateway() -> None:
    async with FakeMoshiServer() as model, gateway(model) as running:
        findings = await found(plan_for(running.url))
    assert list(findings) == CHECKS.split()
    outcomes = {one.name: one.outcome for one in findings.values()}
    wrong = {name for name, outcome in outcomes.items() if outcome == "failed"}
    assert not wrong, [as_line(findings[name]) for name in wrong]
    assert outcomes["idle"] == outcomes["rotation"] == "skipped"
    assert findings["keys-missing"].figures["status"] == 401
    assert findings["stream"].figures["words"] == len(SAID.words)
    assert findings["end"].figures["code"] == 1000
    # The mistakes made on purpose came back with their codes.
    assert findings["close-codes"].figures["code"] == 1003
    speed = findings["speed"].figures["times_real_time"]
    assert isinstance(speed, float) and speed > 1.0
    assert as_summary(list(findings.values())).startswith("all well")
    # Words are counted, and neither they nor keys are told.
    told = "\n".join(as_line(one) + str(one.figures) for one in findings.values())
    assert not any(word.text in told for word in SAID.words)
    assert "wk-good" not in told and "ws-good" not in told


async def test_an_open_door_is_a_failure_unless_it_is_meant() -> None:
    async with FakeMoshiServer() as model, gateway(model, auth="none") as running:
        findings = await found(plan_for(running.url), until="keys-wrong")
        assert findings["keys-missing"].outcome == "failed"
        assert "your cost" in findings["keys-missing"].said
        meant = evolve(plan_for(running.url), open_doors=True)
        findings = await found(meant, until="keys")
        assert findings["keys"].outcome == "skipped"


async def test_keys_that_are_refused_end_it_early() -> None:
    async with FakeMoshiServer() as model, gateway(model, key="wk-other") as running:
        findings = await found(plan_for(running.url))
    assert list(findings)[-1] == "start"
    assert findings["start"].outcome == "failed"
    assert "401" in findings["start"].said


async def test_nobody_there() -> None:
    plan = evolve(plan_for("ws://127.0.0.1:9/v1/stream"), start_timeout_s=1)
    findings = await found(plan)
    assert findings["keys-missing"].outcome == "failed"
    assert findings["start"].outcome == "failed"


async def test_a_cold_start_is_timed() -> None:
    async with FakeGateway(
        key="wk-good", secret="ws-good", cold_start_s=1.0, edge="server"
    ) as fake:
        findings = await found(plan_for(fake.url), until="stream")
    # The edge of this flavour says 503 at once; it is asked until it is there.
    after_s = findings["start"].figures["ready_after"]
    assert isinstance(after_s, float) and after_s >= 1.0
    assert findings["stream"].outcome == "ok"


async def test_a_model_that_does_not_say_how_far_it_is() -> None:
    async with FakeGateway(key="wk-good", secret="ws-good", model=STT_2_6B) as fake:
        findings = await found(plan_for(fake.url))
    assert findings["stream"].outcome == "ok"
    assert findings["speed"].outcome == "skipped"


async def test_a_model_that_stands_still() -> None:
    stuck = Attempt(incidents=(At(incident=StopSteps(), frame=3),))
    async with FakeGateway(key="wk-good", secret="ws-good", attempts=(stuck,)) as fake:
        findings = await found(evolve(plan_for(fake.url), answer_s=1.0), until="flush")
    assert findings["stream"].outcome == "failed"
    assert "frames were processed" in findings["stream"].said
    assert findings["flush"].outcome == "failed"


async def test_speech_without_a_word_is_a_failure() -> None:
    quiet = evolve(plan_for(""), audio=SAID.samples * 0.0, speech=True)
    async with FakeMoshiServer() as model, gateway(model) as running:
        target = Target(url=running.url, headers=KEYS)
        findings = await found(evolve(quiet, target=target), until="stream")
    assert findings["stream"].outcome == "failed"
    assert "no word" in findings["stream"].said


async def test_an_idle_stream_that_something_cuts() -> None:
    # The five streams before it go well: refused keys use no attempt up.
    well = (Attempt(), Attempt(), Attempt())
    cut = Attempt(incidents=(At(incident=CloseWith(code=1001), after_s=0.2),))
    async with FakeGateway(
        key="wk-good", secret="ws-good", attempts=(*well, cut)
    ) as fake:
        findings = await found(evolve(plan_for(fake.url), idle_s=1.0))
    assert findings["idle"].outcome == "failed"
    assert findings["idle"].figures["code"] == 1001


async def test_an_idle_stream_that_is_held_and_a_rotation() -> None:
    well = (Attempt(), Attempt(), Attempt(), Attempt())
    turn = Attempt(incidents=(At(incident=Drain(deadline_s=0.2), after_s=0.3),))
    async with FakeGateway(
        key="wk-good", secret="ws-good", attempts=(*well, turn)
    ) as fake:
        findings = await found(evolve(plan_for(fake.url), idle_s=0.5, rotation_s=10.0))
    assert findings["idle"].outcome == "ok"
    assert findings["rotation"].outcome == "ok", findings["rotation"].said
    assert findings["rotation"].figures["code"] == 1012


@pytest.mark.parametrize(
    ("url", "outcome"),
    [
        ("wss://acme--kyutai-stt-rust-kyutaisttrustservice-serve.modal.run", "ok"),
        (f"wss://{'a' * 20}--{'b' * 42}.modal.run", "failed"),
        ("ws://captions.example/v1/stream", "failed"),
        ("ws://127.0.0.1:8000/v1/stream", "ok"),
    ],
)
async def test_the_address_itself(url: str, outcome: str) -> None:
    plan = plan_for(url)
    async for finding in examine(plan):
        assert finding.name == "address"
        assert finding.outcome == outcome
        break


async def test_the_command_prints_json_and_its_status_tells() -> None:
    async with FakeMoshiServer() as model, gateway(model) as running:
        command = [sys.executable, "-m", "kyutai_gateway.smoke", "--json"]
        command += ["--url", running.url, "--key", "wk-good", "--secret", "ws-good"]
        done = await anyio.run_process(command, check=False)
        assert done.returncode == 0, done.stdout
        report = json.loads(done.stdout)
        assert report["ok"] is True and report["url"] == running.url
        assert [one["name"] for one in report["checks"]] == CHECKS.split()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--url", "wss://a.example"],
        ["--url", "wss://a.example", "--key", "ak-1", "--secret", "as-1"],
        ["--workspace", "x" * 20, "--key", "wk-1", "--secret", "ws-1"],
        ["--url", "wss://a.example", "--open", "--wav", "/nonexistent.wav"],
    ],
)
def test_wrong_arguments_are_told(
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MODAL_WORKSPACE", "MODAL_KEY", "MODAL_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_recording_must_have_the_right_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.wav"
    command = ["--url", "wss://a.example", "--open", "--wav", str(path)]
    path.write_bytes(b"RIFF")
    with pytest.raises(SystemExit):
        main(command)
    assert "is no WAV file" in capsys.readouterr().err
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
    with pytest.raises(SystemExit):
        main(command)
    assert "is not 24 kHz, mono, 16 bit" in capsys.readouterr().err
