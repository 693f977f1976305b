"""The demo as a person runs it: speech in, captions out, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from spreed_signaling.testing import ServerKind

MARK = "LT_TEST_MARK"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "live_transcription", "demo", *arguments]


async def run_demo(*arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run the demo to its end; its exit status, JSON records and stderr."""
    done = await anyio.run_process(command("--json", *arguments), check=False)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, records, done.stderr.decode()


@pytest.mark.timeout(120)
async def test_speech_becomes_captions(server_kind: ServerKind) -> None:
    status, records, stderr = await run_demo("--signaling", server_kind, "--no-page")
    assert status == 0, stderr
    *captions, summary = records
    assert list(summary) == [
        "type", "signaling", "hpb_version", "backend", "captions", "finals", "wer",
        "first_caption_s", "transcribe_http_ms", "talkers",
    ]  # fmt: skip
    assert summary["type"] == "summary"
    assert summary["signaling"] == server_kind
    assert summary["backend"] == "pocketsphinx"
    assert summary["wer"] <= 0.15
    assert summary["transcribe_http_ms"] < 300
    assert summary["captions"] == len(captions)
    assert {one["speaker"] for one in captions} == {summary["talkers"][0]["speaker"]}
    for one in captions:
        assert list(one) == ["type", "speaker", "text", "final", "lang", "t"]
        assert one["lang"] == "en"
    # What is on the screen only grows until its final replaces it.
    shown = ""
    for one in captions:
        assert one["text"].startswith(shown)
        shown = "" if one["final"] else one["text"]


@pytest.mark.timeout(120)
async def test_two_talkers_keep_their_names(server_kind: ServerKind) -> None:
    status, records, stderr = await run_demo(
        "--signaling", server_kind, "--no-page", "--talkers", "2"
    )
    assert status == 0, stderr
    talkers = records[-1]["talkers"]
    assert len(talkers) == 2
    for talker in talkers:
        assert talker["wer"] <= 0.2


async def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_text("no audio")
    status, records, stderr = await run_demo("--audio", str(broken), "--no-page")
    assert status == 1
    assert not records
    assert "broken.wav" in stderr


def marked_processes(mark: str) -> list[str]:
    """Command lines of all processes that inherited the mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                found.append(line.decode())
        except OSError:
            continue
    return found


@asynccontextmanager
async def running_demo(mark: str, *arguments: str) -> AsyncIterator[Process]:
    process = await anyio.open_process(
        command(*arguments),
        env={**os.environ, MARK: mark},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    async with process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def first_line(process: Process, text: str) -> str:
    """The first chunk of output that contains `text`."""
    assert process.stdout is not None
    with anyio.fail_after(50):
        async for chunk in TextReceiveStream(process.stdout):
            if text in chunk:
                return chunk
    raise AssertionError(f"the demo ended without printing {text!r}")


@pytest.mark.timeout(90)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_nothing_is_left_behind(
    server_kind: ServerKind, number: signal.Signals
) -> None:
    mark = uuid.uuid4().hex
    arguments = ("--json", "--no-page", "--signaling", server_kind)
    async with running_demo(mark, *arguments) as process:
        await first_line(process, '"caption"')
        assert len(marked_processes(mark)) >= 3
        process.send_signal(number)
        # Three seconds are promised; the bound allows for a busy machine.
        with anyio.fail_after(8):
            await process.wait()
        if number is not signal.SIGKILL:
            assert process.returncode == 130
            assert marked_processes(mark) == []
        with anyio.fail_after(8):
            # Nobody tells when somebody else's process ends.
            while marked_processes(mark):  # noqa: ASYNC110
                await anyio.sleep(0.05)
