# SPDX-License-Identifier: MIT
# ruff: noqa: T201 - a program for the terminal
r"""Hear everybody in a Talk call and print who speaks, and how loud.

    python listen.py --url https://hpb.example --backend https://cloud.example \
        --secret-file internal-secret.txt --room abcd1234

Needs the extra [media]. The secret is `internalsecret` of the signaling server's
[clients] section.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import anyio
import numpy as np

from spreed_signaling import Auth, InternalAuth, SignalingError, connect
from spreed_signaling.media import SAMPLE_RATE, Call, Speaker


# --8<-- [start:core]
async def listen(url: str, auth: Auth, room_token: str) -> None:
    """Print everybody who speaks, until the session ends."""
    async with (
        connect(url, auth) as client,
        client.join(room_token) as room,
        Call(room) as call,
        anyio.create_task_group() as tasks,
    ):
        async for speaker in call.speakers():
            tasks.start_soon(print_level, speaker)


# --8<-- [end:core]


async def print_level(speaker: Speaker) -> None:
    """Print a line for every second of a speaker's audio."""
    print(f"{name(speaker)} can be heard", flush=True)
    energy, samples = 0.0, 0
    async for chunk in speaker.audio():
        energy += float(np.sum(chunk.samples.astype(np.float64) ** 2))
        samples += len(chunk.samples)
        if samples >= SAMPLE_RATE:
            level = 10 * math.log10(max(energy / samples, 1e-10))
            print(f"{name(speaker)} {level:6.1f} dBFS", flush=True)
            energy, samples = 0.0, 0
    print(f"{name(speaker)} is gone", flush=True)


def name(speaker: Speaker) -> str:
    """Who it is; the name may come after the first audio."""
    return speaker.participant.display_name or "somebody"


def main() -> None:
    """Read the command line and listen until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Print who speaks in a Talk call.")
    parser.add_argument("--url", required=True, help="the signaling server")
    parser.add_argument("--backend", required=True, help="the Nextcloud")
    parser.add_argument("--secret-file", required=True, type=Path)
    parser.add_argument("--room", required=True, help="token: the end of its link")
    given = parser.parse_args()
    secret = given.secret_file.read_text().strip()
    auth = InternalAuth(secret=secret, backend_url=given.backend)
    try:
        anyio.run(listen, given.url, auth, given.room)
    except SignalingError as exc:
        raise SystemExit(str(exc)) from None
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
