"""Who is in the room: a fold over updates, as odd as they come."""

from __future__ import annotations

from typing import Any

import pytest

from spreed_signaling.protocol.events import (
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
)
from spreed_signaling.protocol.roster import Roster, in_call_flags
from spreed_signaling.protocol.server_events import RoomMember, UpdateBody
from spreed_signaling.types import InCallFlags, Participant

TALKING = InCallFlags.IN_CALL | InCallFlags.WITH_AUDIO


class Room:
    """A roster with short ways to feed it."""

    def __init__(self) -> None:
        self.roster = Roster()
        self.roster.clear("me")

    def update(self, *users: Any, **body: Any) -> list[Any]:
        raw = {**body, "users": list(users)} if users else body
        return list(self.roster.receive_update(UpdateBody.from_json(raw)))

    def join(self, **entry: Any) -> list[Any]:
        return list(self.roster.receive_members([RoomMember.from_json(entry)]))

    def __getitem__(self, session_id: str) -> Participant:
        return self.roster.participants[session_id]

    def flags(self) -> dict[str, int]:
        return {key: int(one.in_call) for key, one in self.roster.participants.items()}


class TestInCallFlags:
    @pytest.mark.parametrize(
        ("value", "flags"),
        [
            (0, 0),
            (3, 3),
            (15, 15),
            (1024 + 3, 3),
            (-1, 0),
            (True, 1),
            (False, 0),
        ],
    )
    def test_readable(self, value: Any, flags: int) -> None:
        assert in_call_flags(value) == InCallFlags(flags)

    @pytest.mark.parametrize("value", [None, "3", 3.0, [], {}])
    def test_says_nothing(self, value: Any) -> None:
        assert in_call_flags(value) is None

    @pytest.mark.parametrize(
        ("flags", "virtual", "has_audio"),
        [
            (3, False, True),
            (7, False, True),
            (1, False, False),
            (2, False, False),
            (5, False, False),
            (9, False, False),
            # A phone caller's audio comes from the bridge's own session.
            (3, True, False),
        ],
    )
    def test_audio(self, flags: int, virtual: bool, has_audio: bool) -> None:
        one = Participant(session_id="P", in_call=InCallFlags(flags), virtual=virtual)
        assert one.has_audio is has_audio


class TestRoomEvents:
    """Specification: "Room events"."""

    def test_join(self) -> None:
        room = Room()
        [joined] = room.join(
            sessionid="P",
            userid="pia",
            user={"displayname": "Pia"},
            features=["encryption"],
            roomsessionid="nc-1",
            federated=True,
        )
        assert joined == ParticipantJoined(participant=room["P"])
        assert room["P"] == Participant(
            session_id="P",
            user_id="pia",
            display_name="Pia",
            features=frozenset({"encryption"}),
            nc_session_id="nc-1",
            federated=True,
        )

    def test_join_of_ourselves_or_nobody(self) -> None:
        room = Room()
        assert room.join(sessionid="me") == []
        assert room.join(userid="pia") == []
        assert room.join(sessionid="") == []
        assert room.roster.participants == {}

    def test_join_twice_merges(self) -> None:
        room = Room()
        room.join(sessionid="P", userid="pia")
        assert room.join(sessionid="P") == []
        [changed] = room.join(sessionid="P", user={"displayname": "Pia"})
        assert isinstance(changed, ParticipantChanged)
        assert changed.before.display_name == ""
        assert changed.participant == room["P"]
        assert room["P"].user_id == "pia"

    def test_the_call_may_be_heard_of_before_the_member(self) -> None:
        room = Room()
        [came] = room.update({"sessionId": "P", "inCall": 3})
        assert isinstance(came, ParticipantJoined)
        assert came.participant.has_audio and not came.participant.display_name
        [named] = room.join(sessionid="P", user={"displayname": "Pia"})
        assert isinstance(named, ParticipantChanged)
        assert named.participant == room["P"]
        assert named.participant.display_name == "Pia"
        assert named.participant.has_audio

    def test_odd_user_data(self) -> None:
        room = Room()
        room.join(sessionid="P", user={"displayname": 3}, features="x", userid=None)
        assert room["P"] == Participant(session_id="P")

    def test_leave(self) -> None:
        room = Room()
        room.join(sessionid="P")
        gone = room["P"]
        assert room.roster.receive_leave(["P", "nobody"]) == [
            ParticipantLeft(participant=gone)
        ]
        assert room.roster.participants == {}

    def test_a_new_session_knows_nobody(self) -> None:
        room = Room()
        room.join(sessionid="P")
        [left] = room.roster.clear("P")
        assert isinstance(left, ParticipantLeft)
        # What was our id is now somebody, and the other way round.
        assert room.join(sessionid="P") == []
        assert len(room.join(sessionid="me")) == 1


class TestParticipantsUpdates:
    """Specification: "Participants list events"."""

    def test_entry_of_talk(self) -> None:
        room = Room()
        room.update(
            {
                "sessionId": "P",
                "inCall": 7,
                "userId": "pia",
                "nextcloudSessionId": "nc-1",
                "displayName": "Pia",
                "actorType": "users",
                "actorId": "pia",
                "participantType": 1,
                "participantPermissions": 254,
                "lastPing": 1,
                "features": ["encryption"],
            }
        )
        assert room["P"] == Participant(
            session_id="P",
            nc_session_id="nc-1",
            user_id="pia",
            display_name="Pia",
            in_call=InCallFlags(7),
            actor_type="users",
            actor_id="pia",
            features=frozenset({"encryption"}),
        )

    def test_partial_updates_merge(self) -> None:
        room = Room()
        room.join(sessionid="P", user={"displayname": "Pia"}, roomsessionid="nc-1")
        room.join(sessionid="Q")
        [changed] = room.update({"sessionId": "P", "inCall": 3})
        assert changed.participant.in_call == TALKING
        assert room["P"].display_name == "Pia"
        assert room["P"].nc_session_id == "nc-1"
        assert set(room.roster.participants) == {"P", "Q"}
        assert room.update({"sessionId": "P", "inCall": 3}) == []

    def test_lower_case_keys(self) -> None:
        room = Room()
        room.update(
            {
                "sessionid": "P",
                "userid": "pia",
                "nextcloudsessionid": "nc-1",
                "inCall": 3,
            }
        )
        assert room["P"].user_id == "pia"
        assert room["P"].nc_session_id == "nc-1"
        assert room["P"].has_audio

    @pytest.mark.parametrize(
        "entry",
        [{}, {"sessionId": ""}, {"sessionid": 3}, {"sessionId": None}, {"inCall": 3}],
    )
    def test_entries_without_session_id(self, entry: dict[str, Any]) -> None:
        room = Room()
        assert room.update(entry, {"sessionId": "Q"}) == [
            ParticipantJoined(participant=Participant(session_id="Q"))
        ]

    def test_odd_values_leave_the_participant_unchanged(self) -> None:
        room = Room()
        room.update({"sessionId": "P", "inCall": 3, "nextcloudSessionId": "nc-1"})
        assert (
            room.update(
                {
                    "sessionId": "P",
                    "inCall": "7",
                    "nextcloudSessionId": "",
                    "userId": 5,
                    "displayName": None,
                    "user": {"displayname": []},
                    "internal": "yes",
                }
            )
            == []
        )

    def test_name_inside_user(self) -> None:
        room = Room()
        room.update({"sessionId": "P", "user": {"displayname": "Pia"}})
        assert room["P"].display_name == "Pia"

    @pytest.mark.parametrize(("value", "flags"), [(True, 1), (False, 0)])
    def test_in_call_as_bool(self, value: bool, flags: int) -> None:
        room = Room()
        room.update({"sessionId": "P", "inCall": value})
        assert room.flags() == {"P": flags}

    def test_ourselves_are_left_out(self) -> None:
        room = Room()
        assert room.update({"sessionId": "me", "inCall": 1, "internal": True}) == []

    def test_kinds_of_participants(self) -> None:
        room = Room()
        room.update(
            {"sessionId": "I", "internal": True, "inCall": 3},
            {"sessionId": "V", "virtual": True, "inCall": 9},
            {"sessionId": "F", "actorType": "federated_users", "inCall": 3},
        )
        assert (room["I"].internal, room["I"].has_audio) == (True, True)
        assert (room["V"].virtual, room["V"].has_audio) == (True, False)
        assert (room["F"].federated, room["F"].actor_type) == (True, "federated_users")

    def test_call_ended_for_all(self) -> None:
        room = Room()
        room.update(
            {"sessionId": "P", "inCall": 3},
            {"sessionId": "I", "inCall": 3, "internal": True},
        )
        assert len(room.update(all=True, incall=0)) == 2
        assert room.flags() == {"P": 0, "I": 0}

    def test_call_joined_by_all_but_internal_clients(self) -> None:
        room = Room()
        room.update(
            {"sessionId": "P", "inCall": 0},
            {"sessionId": "I", "inCall": 1, "internal": True},
        )
        [changed] = room.update(all=True, incall=7)
        assert changed.participant.session_id == "P"
        assert room.flags() == {"P": 7, "I": 1}

    @pytest.mark.parametrize("body", [{"all": True}, {"all": True, "incall": "0"}, {}])
    def test_all_without_flags_says_nothing(self, body: dict[str, Any]) -> None:
        room = Room()
        room.update({"sessionId": "P", "inCall": 3})
        assert room.update(**body) == []

    def test_all_and_users_together(self) -> None:
        room = Room()
        room.update({"sessionId": "P", "inCall": 3}, {"sessionId": "Q", "inCall": 3})
        room.update({"sessionId": "Q", "inCall": 1}, all=True, incall=0)
        assert room.flags() == {"P": 0, "Q": 1}


class TestCaptionTargets:
    def test_found_by_nextcloud_session(self) -> None:
        room = Room()
        room.join(sessionid="P")
        assert room.roster.find_nc_session("nc-1") is None
        room.update({"sessionId": "P", "nextcloudSessionId": "nc-1"})
        assert room.roster.find_nc_session("nc-1") == room["P"]
        assert room.roster.find_nc_session("nc-2") is None

    def test_a_snapshot_is_not_the_roster(self) -> None:
        room = Room()
        room.join(sessionid="P")
        before = room.roster.participants
        room.roster.receive_leave(["P"])
        assert set(before) == {"P"}
