# SPDX-License-Identifier: MIT
# ruff: noqa: T201 - a program for the terminal
r"""A bot without media: it sends back every message of the type `echo`.

    python echo_text.py --url https://hpb.example --backend https://cloud.example \
        --secret-file internal-secret.txt --room abcd1234

Needs no extra: data messages travel over the signaling connection.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio

from spreed_signaling import (
    Auth,
    DataReceived,
    InternalAuth,
    ParticipantJoined,
    ParticipantLeft,
    SignalingError,
    connect,
)


# --8<-- [start:core]
async def echo(url: str, auth: Auth, room_token: str) -> None:
    """Answer until the session ends."""
    async with connect(url, auth) as client, client.join(room_token) as room:
        print(f"joined with {len(room.participants)} others", flush=True)
        with room.subscribe() as events:
            async for event in events:
                match event:
                    case DataReceived(sender_session_id=str(sender), data=dict(data)):
                        if data.get("type") == "echo":
                            room.send_data(sender, {**data, "type": "echoed"})
                    case ParticipantJoined(participant=one):
                        print(f"{one.display_name or 'somebody'} came", flush=True)
                    case ParticipantLeft(participant=one):
                        print(f"{one.display_name or 'somebody'} left", flush=True)


# --8<-- [end:core]


def main() -> None:
    """Read the command line and answer until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Send messages back.")
    parser.add_argument("--url", required=True, help="the signaling server")
    parser.add_argument("--backend", required=True, help="the Nextcloud")
    parser.add_argument("--secret-file", required=True, type=Path)
    parser.add_argument("--room", required=True, help="token: the end of its link")
    given = parser.parse_args()
    secret = given.secret_file.read_text().strip()
    auth = InternalAuth(secret=secret, backend_url=given.backend)
    try:
        anyio.run(echo, given.url, auth, given.room)
    except SignalingError as exc:
        raise SystemExit(str(exc)) from None
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
