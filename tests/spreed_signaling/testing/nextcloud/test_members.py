"""People of the stand-in, and what it received."""

from __future__ import annotations

import pytest

from spreed_signaling.errors import RoomApiError, UsageError
from spreed_signaling.testing._serve import bind_socket
from spreed_signaling.testing.nextcloud import StandInNextcloud
from spreed_signaling.types import InCallFlags

from .requests_to import Backend, auth


@pytest.fixture
def free_url() -> str:
    sock = bind_socket()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    sock.close()
    return url


class TestMembers:
    async def test_session_ids_look_like_talks(self, nc: StandInNextcloud) -> None:
        ids = {nc.add_member("demoroom", "a", "A").nc_session_id for _ in range(50)}
        assert len(ids) == 50
        for session_id in ids:
            assert len(session_id) == 255
            assert {"+", "/"} <= set(session_id)

    async def test_names_and_secrets_stay_out_of_repr(
        self, nc: StandInNextcloud
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice Secret")
        for hidden in ("Alice Secret", alice.auth.ticket, alice.nc_session_id):
            assert hidden not in repr(alice)

    async def test_unknown_rooms_are_our_mistake(self, nc: StandInNextcloud) -> None:
        with pytest.raises(UsageError, match="add_room"):
            nc.add_member("nowhere", "alice", "Alice")

    async def test_calls_need_a_signaling_server(self, nc: StandInNextcloud) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice")
        with pytest.raises(UsageError, match="hpb_url"):
            await nc.join_call(alice)

    async def test_a_dead_signaling_server_is_a_typed_error(
        self, nc: StandInNextcloud, free_url: str
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice")
        nc.hpb_url = free_url
        with pytest.raises(RoomApiError) as caught:
            await nc.join_call(alice, InCallFlags.IN_CALL)
        assert caught.value.status is None
        assert caught.value.retryable


class TestWaiting:
    async def test_finds_requests_of_the_past_and_the_future(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        with pytest.raises(TimeoutError):
            await nc.wait_for_request(lambda r: r.summary == "auth", 0.05)
        await backend.send(auth("alice", "invented"))
        found = await nc.wait_for_request(lambda r: r.summary == "auth")
        assert found.method == "POST"
        assert "invented" not in repr(found)
