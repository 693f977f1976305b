"""The signaling server's requests to the stand-in."""

from __future__ import annotations

import json

import httpx
import pytest

from spreed_signaling.testing.nextcloud import StandInNextcloud

from .requests_to import FIXTURES, Backend, auth, room


class TestBackendRequests:
    """`docs/standalone-signaling-api-v1.md`, "Backend requests"."""

    async def test_a_ticket_is_worth_a_user(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice A.")
        answer = await backend.send(auth("alice", alice.auth.ticket))
        assert answer == {
            "type": "auth",
            "auth": {
                "version": "1.0",
                "userid": "alice",
                "user": {"displayname": "Alice A."},
            },
        }

    async def test_a_guest_has_no_user_id(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        guest = nc.add_member("demoroom", "", "Guest")
        answer = await backend.send(auth("", guest.auth.ticket))
        assert answer == {"type": "auth", "auth": {"version": "1.0"}}

    @pytest.mark.parametrize("user_id", ["bob", ""])
    async def test_a_ticket_is_refused_for_another_user(
        self, nc: StandInNextcloud, backend: Backend, user_id: str
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice")
        answer = await backend.send(auth(user_id, alice.auth.ticket))
        assert answer["error"]["code"] == "invalid_ticket"

    async def test_an_invented_ticket_is_refused(self, backend: Backend) -> None:
        answer = await backend.send(auth("alice", "invented"))
        assert answer["error"]["code"] == "invalid_ticket"

    @pytest.mark.parametrize(
        ("part", "value"), [("secret", "other"), ("random", "short")]
    )
    async def test_a_badly_signed_request_is_refused(
        self, nc: StandInNextcloud, backend: Backend, part: str, value: str
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice")
        setattr(backend, part, value)
        answer = await backend.send(auth("alice", alice.auth.ticket))
        assert answer["error"]["code"] == "invalid_request"

    async def test_joining_and_leaving_a_room(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice", permissions=("control",))
        answer = await backend.send(room(alice.nc_session_id, userid="alice"))
        assert answer == {
            "type": "room",
            "room": {
                "version": "1.0",
                "roomid": "demoroom",
                "properties": {"name": "Demo room", "type": 2},
                "permissions": ["control"],
            },
        }
        left = await backend.send(room(alice.nc_session_id, action="leave"))
        assert left["room"]["roomid"] == "demoroom"
        assert [request.summary for request in nc.requests] == [
            "room join demoroom",
            "room leave demoroom",
        ]

    async def test_old_talk_sends_no_permissions(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice", permissions=None)
        answer = await backend.send(room(alice.nc_session_id))
        assert "permissions" not in answer["room"]

    async def test_a_session_of_another_room_is_not_invited(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        nc.add_room("other")
        alice = nc.add_member("other", "alice", "Alice")
        answer = await backend.send(room(alice.nc_session_id))
        assert answer["error"]["code"] == "no_such_room"
        answer = await backend.send(room(alice.nc_session_id, "nowhere"))
        assert answer["error"]["code"] == "no_such_room"

    async def test_ping_and_virtual_sessions(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice")
        entry = {"userid": "alice", "sessionid": alice.nc_session_id}
        ping = {"version": "1.0", "roomid": "demoroom", "entries": [entry]}
        answer = await backend.send({"type": "ping", "ping": ping})
        assert answer == {
            "type": "room",
            "room": {"version": "1.0", "roomid": "demoroom"},
        }
        session = {"version": "1.0", "roomid": "demoroom", "action": "add"}
        answer = await backend.send(
            {"type": "session", "session": session | {"sessionid": "v1"}}
        )
        assert answer == {
            "type": "session",
            "session": {"version": "1.0", "roomid": "demoroom"},
        }

    async def test_unknown_types_are_refused(self, backend: Backend) -> None:
        answer = await backend.send({"type": "new", "new": {}})
        assert answer["type"] == "error"

    async def test_recorded_requests_verify(
        self, nc: StandInNextcloud, http: httpx.AsyncClient
    ) -> None:
        """The exact bytes and checksums of a real server are accepted."""
        trace = (FIXTURES / "signaling-trace.jsonl").read_text().splitlines()
        lines = [json.loads(line) for line in trace]
        posts = [
            line for line in lines if (line["who"], line["dir"]) == ("backend", "POST")
        ]
        assert len(posts) > 20
        for line in posts:
            body = json.dumps(line["msg"], separators=(",", ":"))
            answer = await http.post(
                f"{nc.url}/ocs/v2.php/apps/spreed/api/v3/signaling/backend",
                content=body,
                headers={
                    key: value
                    for key, value in line["headers"].items()
                    if key not in {"Host", "Content-Length", "Accept-Encoding"}
                },
            )
            data = answer.json()["ocs"]["data"]
            if data["type"] == "error":
                # The recorded tickets and sessions are not ours.
                assert data["error"]["code"] in {"invalid_ticket", "no_such_room"}

    async def test_the_server_sees_signaling_v3(
        self, nc: StandInNextcloud, http: httpx.AsyncClient
    ) -> None:
        answer = await http.get(f"{nc.url}/ocs/v2.php/cloud/capabilities")
        spreed = answer.json()["ocs"]["data"]["capabilities"]["spreed"]
        assert "signaling-v3" in spreed["features"]
        assert "BEGIN PUBLIC KEY" in spreed["config"]["signaling"]["hello-v2-token-key"]
