# SPDX-License-Identifier: MIT
"""`python -m kyutai_gateway.smoke --url …`; exit status 1 if a check failed."""

from __future__ import annotations

import argparse
import os
import ssl
import sys
import wave
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import anyio
import numpy as np
import numpy.typing as npt

from kyutai_stream import ConfigError
from kyutai_stream.backends.modal import ModalBackend
from kyutai_stream.core import SAMPLE_RATE
from kyutai_stream.testing.tones import speak

from . import Finding, Plan, Target, as_json, as_line, as_summary, examine

__all__ = ["main"]

TONES = "alpha bravo charlie. delta echo foxtrot"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks.

    Returns:
        0 if all went well, 1 if a check failed, 2 for wrong arguments.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        plan = _plan(given)
    except (ConfigError, OSError, ValueError) as exc:
        parser.error(str(exc))
    findings = anyio.run(_run, plan, not given.json)
    if given.json:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        sys.stdout.write(as_json(findings, url=plan.target.url, at=at) + "\n")
    else:
        sys.stdout.write(as_summary(findings) + "\n")
    return int(any(one.outcome == "failed" for one in findings))


async def _run(plan: Plan, talk: bool) -> list[Finding]:
    findings = []
    async for finding in examine(plan):
        findings.append(finding)
        if talk:
            sys.stdout.write(as_line(finding) + "\n")
            sys.stdout.flush()
    return findings


def _parser() -> argparse.ArgumentParser:
    # A command line: the names are those of the ExApp.
    environment = os.environ  # noqa: TID251
    parser = argparse.ArgumentParser(
        prog="python -m kyutai_gateway.smoke",
        description="Check a gateway that was just deployed. It starts a container.",
    )
    where = parser.add_argument_group("which gateway")
    where.add_argument("--url", help="address, such as wss://host/v1/stream")
    where.add_argument(
        "--workspace",
        default=environment.get("MODAL_WORKSPACE"),
        help="or the name of a Modal workspace (MODAL_WORKSPACE)",
    )
    where.add_argument(
        "--key", default=environment.get("MODAL_KEY"), help="wk-… (MODAL_KEY)"
    )
    where.add_argument(
        "--secret", default=environment.get("MODAL_SECRET"), help="ws-… (MODAL_SECRET)"
    )
    where.add_argument("--bearer", help="instead of key and secret")
    where.add_argument(
        "--open", action="store_true", help="it is meant to let everybody in"
    )
    where.add_argument(
        "--ca-file", type=Path, help="trust this certificate, not the system's"
    )
    what = parser.add_argument_group("what to check")
    what.add_argument(
        "--wav", type=Path, help="speech, 24 kHz mono 16 bit; words must be found in it"
    )
    what.add_argument("--start-timeout-s", type=float, default=300.0)
    what.add_argument(
        "--idle-s", type=float, default=0.0, help="hold a silent stream so long"
    )
    what.add_argument(
        "--rotation-s", type=float, default=0.0, help="wait so long for a rotation"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _plan(given: argparse.Namespace) -> Plan:
    # It knows addresses, credentials, and what is wrong with them.
    backend = ModalBackend(
        url=given.url,
        workspace=None if given.url else given.workspace,
        key=None if given.bearer or given.open else given.key,
        secret=None if given.bearer or given.open else given.secret,
        api_key=given.bearer,
    )
    headers = {}
    if given.bearer:
        headers["Authorization"] = f"Bearer {given.bearer}"
    elif given.key and not given.open:
        headers |= {"Modal-Key": given.key, "Modal-Secret": given.secret}
    elif not given.open:
        raise ValueError("give --key and --secret, or --bearer, or --open")
    tls = ssl.create_default_context(cafile=given.ca_file) if given.ca_file else None
    return Plan(
        target=Target(url=backend.endpoints[0], headers=headers, tls=tls),
        audio=_speech(given.wav) if given.wav else speak(TONES).samples,
        speech=bool(given.wav),
        open_doors=given.open,
        start_timeout_s=given.start_timeout_s,
        idle_s=given.idle_s,
        rotation_s=given.rotation_s,
    )


def _speech(path: Path) -> npt.NDArray[np.float32]:
    try:
        with wave.open(str(path)) as file:
            shape = (file.getframerate(), file.getnchannels(), file.getsampwidth())
            pcm = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as exc:
        raise ValueError(f"{path} is no WAV file") from exc
    if shape != (SAMPLE_RATE, 1, 2):
        raise ValueError(f"{path} is not 24 kHz, mono, 16 bit")
    return (np.frombuffer(pcm, "<i2") / 32768).astype(np.float32)


if __name__ == "__main__":
    raise SystemExit(main())
