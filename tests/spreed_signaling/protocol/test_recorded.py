"""Recorded traffic of real servers, replayed through the machines as subscriber T.

The server's frames come as they were recorded. What our side sends is compared
with what the recorded client sent; where that client did what we must not do
(join again after a resume), the replay says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spreed_signaling.errors import ConnectionLost
from spreed_signaling.protocol.auth import InternalAuth
from spreed_signaling.protocol.events import (
    DataReceived,
    ParticipantJoined,
    ParticipantLeft,
    RequestErrored,
    RoomJoined,
    SessionEvent,
    SessionResumed,
    SessionStarted,
)
from spreed_signaling.protocol.negotiation import (
    AddCandidate,
    Answer,
    ClosePeer,
    MediaSignal,
    NegotiationAction,
    OpenPeer,
    PeerState,
    SendSignal,
    Subscription,
)
from spreed_signaling.protocol.phases import Phase, SessionOptions
from spreed_signaling.protocol.session import SignalingSession
from spreed_signaling.types import InCallFlags

TRACE = Path(__file__).parents[2] / "fixtures" / "signaling-trace.jsonl"
ROOM = "demoroom"


def recorded(scenario: str, who: str = "T") -> Iterator[dict[str, Any]]:
    for line in TRACE.read_text().splitlines():
        entry = json.loads(line)
        if (entry["scenario"], entry["who"]) == (scenario, who):
            yield entry


class Replay:
    """Our session and subscriptions in the place of the recorded client."""

    def __init__(self, scenario: str) -> None:
        auth = InternalAuth(
            secret="fake-internal-secret", backend_url="http://127.0.0.1:18090"
        )
        # Like the recorded client, which tried to resume however late it was.
        options = SessionOptions(resume_window_s=60.0)
        self.session = SignalingSession(auth, options)
        self.session.join(ROOM, now=0.0)
        self.scenario = scenario
        self.now = 0.0
        self.ids: dict[str, str] = {}
        """From the recorded client's request ids to ours."""
        self.unsent: list[dict[str, Any]] = []
        """What the session wants to say."""
        self.subscriptions: dict[str, Subscription] = {}
        self.log: list[SessionEvent] = []
        self.actions: list[NegotiationAction] = []

    def run(self) -> Replay:
        for entry in recorded(self.scenario):
            self.now = max(self.now, entry["t"])
            {"send": self._sent, "recv": self._received, "ws-closed": self._closed}[
                entry["dir"]
            ](entry)
        return self

    # The recorded client's steps.

    def _sent(self, entry: dict[str, Any]) -> None:
        message = entry["msg"]
        if message["type"] == "message":
            self._sent_media(message)
            return
        if self.session.status().phase is Phase.DISCONNECTED:
            self.session.retry_now(self.now)
            assert self.session.wants_connection(self.now)
            self.session.connection_opened(self.now)
        self._collect()
        if not self.unsent:
            # The recorded client joins again after a resume: we must not.
            assert message["type"] == "room"
            assert self.session.status().in_room
            return
        ours = self.unsent.pop(0)
        assert shape(ours) == shape(message)
        self.ids[message["id"]] = ours["id"]

    def _sent_media(self, message: dict[str, Any]) -> None:
        publisher = message["message"]["recipient"]["sessionid"]
        data = message["message"]["data"]
        core = self.subscriptions.setdefault(publisher, Subscription(publisher))
        if data["type"] == "requestoffer":
            actions = core.start(self.now)
        else:
            actions = core.answer_ready(data["sid"], data["payload"]["sdp"])
            assert actions, "the recorded client answered the offer in use"
        self._carry_out(core, actions)
        self._collect()
        ours = self.unsent.pop(0)
        expected = {key: data[key] for key in data if key != "payload"}
        sent = dict(ours["message"]["data"])
        assert sent.pop("payload", {}).get("sdp") == data.get("payload", {}).get("sdp")
        assert sent == expected
        self.ids[message["id"]] = ours["id"]

    def _received(self, entry: dict[str, Any]) -> None:
        message = dict(entry["msg"])
        if "id" in message:
            ours = self.ids.get(message["id"])
            if ours is None:
                return
            message["id"] = ours
        self.session.receive(json.dumps(message), self.now)
        self._fold()

    def _closed(self, entry: dict[str, Any]) -> None:
        code = entry["msg"]["code"]
        self.session.connection_lost(ConnectionLost("closed", code), self.now)
        self._fold()

    # Our side.

    def _collect(self) -> None:
        self.unsent += [json.loads(text) for text in self.session.messages_to_send()]

    def _carry_out(self, core: Subscription, actions: list[NegotiationAction]) -> None:
        self.actions += actions
        for action in actions:
            if isinstance(action, SendSignal):
                message = action.signal.to_message(core.publisher)
                core.sent(self.session.send(message, now=self.now))

    def _fold(self) -> None:
        events = self.session.events()
        self.log += events
        for event in events:
            match event:
                case SessionStarted() | ParticipantLeft():
                    gone = (
                        event.participant.session_id
                        if isinstance(event, ParticipantLeft)
                        else None
                    )
                    for publisher, core in self.subscriptions.items():
                        if gone in (None, publisher):
                            self._carry_out(core, core.stop())
                case DataReceived():
                    signal = MediaSignal.from_data(event.data, event.sender_session_id)
                    assert signal is not None
                    assert signal.sender is not None
                    core = self.subscriptions[signal.sender]
                    self._carry_out(core, core.receive(signal, self.now))
                    if core.sid is not None:
                        core.peer_changed(core.sid, PeerState.CONNECTED, self.now)

    # Domain assertions.

    def count(self, kind: type[SessionEvent]) -> int:
        return sum(isinstance(event, kind) for event in self.log)

    def opened(self) -> list[str]:
        return [one.sid for one in self.actions if isinstance(one, OpenPeer)]

    def closed(self) -> list[str]:
        return [one.sid for one in self.actions if isinstance(one, ClosePeer)]

    def candidates(self) -> list[str | None]:
        return [one.sid for one in self.actions if isinstance(one, AddCandidate)]

    def speakers(self) -> dict[str, str]:
        """Names of those whose audio would be requested."""
        roster = self.session.roster.participants.values()
        return {one.user_id: one.display_name for one in roster if one.has_audio}

    def errors(self) -> list[str]:
        return [
            event.error.code for event in self.log if isinstance(event, RequestErrored)
        ]


def shape(message: dict[str, Any]) -> Any:
    """A request without what has to differ: ids, proofs, hello version."""
    body = message[message["type"]]
    if message["type"] == "hello":
        return ("hello", "resume" if "resumeid" in body else body["auth"]["type"])
    return (message["type"], body)


class TestSubscribing:
    """The normal flow, and its variants."""

    @pytest.mark.parametrize("scenario", ["subscribe-2.0.2", "subscribe-1.2.4"])
    def test_subscribe(self, scenario: str) -> None:
        replay = Replay(scenario).run()
        assert replay.count(SessionStarted) == replay.count(RoomJoined) == 1
        assert replay.speakers() == {"alice": "alice"}
        [sid] = replay.opened()
        assert replay.candidates() == [sid]
        assert replay.errors() == []

    def test_publisher_whom_nextcloud_never_reported(self) -> None:
        replay = Replay("no-incall-update-2.0.2").run()
        assert replay.speakers() == {}
        assert len(replay.opened()) == 1

    def test_late_and_missing_publisher(self) -> None:
        replay = Replay("publisher-late-or-missing-2.0.2").run()
        assert len(replay.opened()) == 1
        assert replay.errors() == ["client_not_found"]

    def test_each_request_brings_a_new_sid(self) -> None:
        replay = Replay("resubscribe-loop-2.0.2").run()
        assert len(set(replay.opened())) == 3
        assert replay.closed() == replay.opened()[:2]
        assert replay.candidates() == replay.opened()

    @pytest.mark.parametrize(
        ("scenario", "errors"),
        [
            ("republish-leave-bye-2.0.2", ["processing_failed"]),
            ("republish-leave-bye-1.2.4", ["client_not_found", "processing_failed"]),
        ],
    )
    def test_republish_leave_and_bye(self, scenario: str, errors: list[str]) -> None:
        replay = Replay(scenario).run()
        assert replay.speakers() == {}
        assert replay.errors() == errors
        # All peers were given up, the last when its publisher left.
        assert replay.closed() == replay.opened()
        assert not any(isinstance(one, Answer) for one in replay.actions)

    def test_candidate_before_its_offer(self) -> None:
        replay = Replay("republish-leave-bye-2.0.2").run()
        assert replay.candidates() == replay.opened()

    def test_ghosts_of_earlier_clients(self) -> None:
        replay = Replay("republish-leave-bye-2.0.2").run()
        joined = {
            event.participant.user_id
            for event in replay.log
            if isinstance(event, ParticipantJoined)
        }
        assert joined == {"alice", "bob", ""}
        assert replay.session.roster.participants == {}


class TestOutages:
    """Connections, servers and media servers that go away."""

    def test_resume_and_expiry(self) -> None:
        replay = Replay("resume-and-expiry-2.0.2").run()
        # One resume worked; the second, after 36 s, led to a full hello on the
        # same socket.
        assert replay.count(SessionResumed) == 1
        assert replay.count(SessionStarted) == 2
        assert replay.count(RoomJoined) == 2
        assert replay.speakers() == {"alice": "alice"}
        # The first two peers are of the first session, the last of the second.
        assert len(replay.opened()) == 3
        assert replay.closed() == replay.opened()[:2]

    def test_restarted_server(self) -> None:
        replay = Replay("hpb-restart-2.0.2").run()
        assert replay.count(SessionResumed) == 0
        assert replay.count(SessionStarted) == replay.count(RoomJoined) == 2
        first, second = replay.opened()
        assert replay.closed() == [first]
        assert second != first

    @pytest.mark.parametrize(
        "scenario", ["janus-killed-2.0.2", "janus-restart-retries-2.0.2"]
    )
    def test_media_server_gone(self, scenario: str) -> None:
        replay = Replay(scenario).run()
        # The signaling server says nothing: the session does not notice.
        assert replay.count(SessionStarted) == 1
        assert replay.session.status().in_room
        assert set(replay.errors()) <= {"processing_failed", "client_not_found"}

    def test_media_server_restarted_and_call_joined_again(self) -> None:
        replay = Replay("janus-restart-incall-toggle-2.0.2").run()
        assert replay.speakers() == {"alice": "alice"}
        assert len(replay.opened()) == 2
        # The second offer came without any candidate message.
        assert replay.candidates() == replay.opened()[:1]


def test_flags_in_the_recordings() -> None:
    replay = Replay("subscribe-2.0.2").run()
    [participant] = replay.session.roster.participants.values()
    assert participant.in_call == InCallFlags.IN_CALL | InCallFlags.WITH_AUDIO
    assert participant.nc_session_id == "fake-nc-session-P"
