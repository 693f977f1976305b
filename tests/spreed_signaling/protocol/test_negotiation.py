"""One exchange with the SFU, as subscriber and as publisher."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from spreed_signaling.protocol.negotiation import (
    AddCandidate,
    Answer,
    ClosePeer,
    MediaSignal,
    NegotiationAction,
    OpenPeer,
    PeerState,
    Publication,
    SendSignal,
    Subscription,
)

FIRST = {"candidate": "candidate:1 1 udp 1 192.0.2.10 1 typ host", "sdpMid": "0"}
# Seen from Janus: the index counts then.
SECOND = {"candidate": "candidate:2 1 udp 1 192.0.2.10 2 typ host", "sdpMid": ""}


def offer(sid: str | None, sdp: str | None = "v=0") -> MediaSignal:
    return MediaSignal(kind="offer", sid=sid, sdp=sdp)


def candidate(sid: str | None, which: dict[str, Any] = FIRST) -> MediaSignal:
    return MediaSignal(kind="candidate", sid=sid, candidate=which)


class Case:
    """A subscription and the owner that drives it; ids count up."""

    def __init__(self) -> None:
        self.now = 100.0
        self.core = Subscription("P")
        self.last_id = 0
        self.actions: list[NegotiationAction] = []

    def do(self, actions: Iterable[NegotiationAction]) -> list[NegotiationAction]:
        """Send what has to be sent; returns everything."""
        done = list(actions)
        for action in done:
            if isinstance(action, SendSignal):
                self.last_id += 1
                self.core.sent(str(self.last_id))
        return done

    def start(self) -> None:
        self.assert_requested(self.do(self.core.start(self.now)))

    def hear(self, signal: MediaSignal) -> list[NegotiationAction]:
        return self.do(self.core.receive(signal, self.now))

    def error(self, request_id: int | None = None) -> bool:
        number = self.last_id if request_id is None else request_id
        return self.core.receive_error(str(number), self.now)

    def answer(self, sid: str) -> None:
        [action] = self.do(self.core.answer_ready(sid, "v=0 answer"))
        assert isinstance(action, SendSignal)
        assert (action.signal.kind, action.signal.sid) == ("answer", sid)

    def peer(self, state: PeerState, sid: str = "1") -> None:
        self.core.peer_changed(sid, state, self.now)

    def connected(self) -> None:
        self.start()
        self.hear(offer("1"))
        self.answer("1")
        self.peer(PeerState.CONNECTED)
        assert self.core.connected

    def advance(self, seconds: float) -> list[NegotiationAction]:
        self.now += seconds
        return self.do(self.core.tick(self.now))

    def until_due(self) -> float:
        due = self.core.deadline()
        assert due is not None
        return due - self.now

    def assert_requested(
        self, actions: list[NegotiationAction], *, closing: str | None = None
    ) -> None:
        """An offer was requested without sid, and the old peer given up."""
        *closed, request = actions
        assert isinstance(request, SendSignal)
        assert request.signal == MediaSignal(kind="requestoffer")
        assert closed == ([] if closing is None else [ClosePeer(closing)])

    def assert_retry_planned(self, least: float, most: float) -> None:
        assert not self.core.connected
        assert least <= self.until_due() <= most


class TestRequestOfferFromPublisher:
    """Specification: "Request offer from publisher"."""

    def test_the_normal_way(self) -> None:
        case = Case()
        assert case.core.deadline() is None
        case.start()
        assert case.core.requests == 1
        assert case.hear(offer("1", "v=0 offer")) == [OpenPeer("1", "v=0 offer")]
        assert case.core.sid == "1"
        case.answer("1")
        assert case.hear(candidate("1")) == [AddCandidate("1", FIRST)]
        case.peer(PeerState.CONNECTING)
        assert not case.core.connected
        case.peer(PeerState.CONNECTED)
        assert case.core.connected

    def test_no_offer_in_time_is_asked_again(self) -> None:
        case = Case()
        case.start()
        assert case.advance(11.9) == []
        case.assert_requested(case.advance(0.1))
        assert case.core.requests == 2

    def test_no_connection_in_time(self) -> None:
        case = Case()
        case.start()
        case.hear(offer("1"))
        assert case.until_due() == pytest.approx(10.0)
        case.assert_requested(case.advance(10.0), closing="1")
        assert case.core.sid is None

    def test_stopped(self) -> None:
        case = Case()
        assert case.core.stop() == []
        case.connected()
        assert case.core.stop() == [ClosePeer("1")]
        assert case.core.deadline() is None
        assert case.hear(offer("2")) == []
        assert case.advance(1e6) == []
        case.peer(PeerState.FAILED)
        assert case.core.deadline() is None
        # Errors that come after it are still ours.
        assert case.error()
        assert case.core.deadline() is None

    @pytest.mark.parametrize(
        "signal",
        [
            MediaSignal(kind="offer", sid="1", sdp="v=0", room_type="screen"),
            offer(None),
            offer("1", None),
            MediaSignal(kind="candidate", sid="1"),
            MediaSignal(kind="endOfCandidates", sid="1"),
            MediaSignal(kind="answer", sid="1", sdp="v=0"),
        ],
    )
    def test_signals_without_use(self, signal: MediaSignal) -> None:
        case = Case()
        case.start()
        assert case.hear(signal) == []
        assert case.core.sid is None


class TestCandidates:
    """Candidates may come before their offer."""

    def test_early_ones_are_kept_by_sid(self) -> None:
        case = Case()
        case.start()
        assert case.hear(candidate("1", SECOND)) == []
        assert case.hear(candidate("2")) == []
        assert case.hear(candidate(None)) == []
        assert case.hear(offer("1")) == [
            OpenPeer("1", "v=0"),
            AddCandidate("1", SECOND),
            AddCandidate("1", FIRST),
        ]

    def test_those_of_the_next_peer_wait_for_its_offer(self) -> None:
        case = Case()
        case.connected()
        assert case.hear(candidate("2")) == []
        assert case.hear(candidate(None)) == [AddCandidate("1", FIRST)]
        assert case.hear(offer("2")) == [
            ClosePeer("1"),
            OpenPeer("2", "v=0"),
            AddCandidate("2", FIRST),
        ]

    def test_a_new_request_forgets_them(self) -> None:
        case = Case()
        case.start()
        case.hear(candidate("1"))
        case.advance(12.0)
        assert case.hear(offer("1")) == [OpenPeer("1", "v=0")]

    def test_only_so_many_are_kept(self) -> None:
        case = Case()
        case.start()
        for number in range(100):
            case.hear(candidate("1", {"candidate": str(number)}))
        opened, *added = case.hear(offer("1"))
        assert isinstance(opened, OpenPeer)
        numbers = [
            action.candidate["candidate"]
            for action in added
            if isinstance(action, AddCandidate)
        ]
        assert numbers == [str(number) for number in range(36, 100)]


class TestSid:
    """The sid names one Janus handle."""

    def test_same_sid_renegotiates(self) -> None:
        case = Case()
        case.connected()
        assert case.hear(offer("1", "v=1")) == [Answer("1", "v=1")]
        assert case.core.connected
        case.answer("1")

    def test_new_sid_replaces(self) -> None:
        case = Case()
        case.connected()
        assert case.hear(offer("2")) == [ClosePeer("1"), OpenPeer("2", "v=0")]
        assert not case.core.connected
        # What the old peer still says counts no more.
        case.peer(PeerState.FAILED, "1")
        case.peer(PeerState.CONNECTED, "1")
        assert not case.core.connected
        assert case.until_due() == pytest.approx(10.0)

    def test_stale_answers_are_not_sent(self) -> None:
        case = Case()
        case.start()
        case.hear(offer("1"))
        case.hear(offer("2"))
        assert case.core.answer_ready("1", "v=0") == []
        case.answer("2")

    def test_answers_of_a_peer_given_up_are_not_sent(self) -> None:
        case = Case()
        case.start()
        case.hear(offer("1"))
        case.peer(PeerState.FAILED)
        assert case.core.answer_ready("1", "v=0") == []

    def test_a_peer_given_up_is_not_renegotiated(self) -> None:
        case = Case()
        case.start()
        case.hear(offer("1"))
        case.peer(PeerState.FAILED)
        assert case.hear(offer("1")) == [ClosePeer("1"), OpenPeer("1", "v=0")]
        case.peer(PeerState.CONNECTED)
        assert case.core.connected


class TestErrors:
    """Errors are tied to requests by id."""

    def test_refused_request_is_repeated_with_growing_pauses(self) -> None:
        case = Case()
        case.start()
        pauses = []
        for _ in range(8):
            assert case.error()
            pauses.append(case.until_due())
            case.assert_requested(case.advance(pauses[-1]))
        assert 0.75 <= pauses[0] <= 1.25
        assert 1.5 <= pauses[1] <= 2.5
        assert all(22 <= pause <= 38 for pause in pauses[5:])

    def test_refused_answer_closes_the_peer(self) -> None:
        case = Case()
        case.start()
        case.hear(offer("1"))
        case.answer("1")
        assert case.error()
        case.assert_retry_planned(0.75, 1.25)
        # Nothing that this peer does helps now.
        case.peer(PeerState.CONNECTED)
        assert not case.core.connected
        case.assert_requested(case.advance(1.25), closing="1")

    def test_two_errors_of_one_attempt_count_once(self) -> None:
        case = Case()
        case.start()
        case.hear(offer("1"))
        case.answer("1")
        case.core.sent("extra")
        assert case.error()
        due = case.until_due()
        assert case.core.receive_error("extra", case.now)
        assert case.until_due() == due

    def test_errors_of_others_are_not_ours(self) -> None:
        case = Case()
        case.start()
        assert not case.error(99)
        assert case.error()
        assert not case.error()

    def test_late_errors_do_not_disturb_the_next_attempt(self) -> None:
        case = Case()
        case.start()
        case.advance(12.0)
        case.hear(offer("1"))
        assert case.error(1)
        assert case.core.sid == "1"
        assert case.until_due() == pytest.approx(10.0)

    def test_errors_do_not_disturb_a_connected_peer(self) -> None:
        case = Case()
        case.connected()
        assert case.error()
        assert case.core.connected

    def test_only_so_many_requests_are_remembered(self) -> None:
        case = Case()
        for _ in range(40):
            case.start()
        assert not case.error(1)
        assert case.error(20)

    def test_failed_peer(self) -> None:
        case = Case()
        case.connected()
        case.peer(PeerState.FAILED)
        case.assert_retry_planned(0.75, 1.25)
        case.assert_requested(case.advance(1.25), closing="1")


class TestStalledMedia:
    """Only missing packets tell of a publisher that began anew."""

    def test_patience_grows(self) -> None:
        case = Case()
        case.connected()
        waits = []
        for sid in ("2", "3", "4", "5", "6"):
            waits.append(case.until_due())
            case.advance(waits[-1])
            case.hear(offer(sid))
            case.peer(PeerState.CONNECTED, sid)
        assert waits == [10.0, 20.0, 40.0, 60.0, 60.0]

    def test_packets_are_patience(self) -> None:
        case = Case()
        case.connected()
        for _ in range(5):
            case.now += 9.0
            case.core.media_arrived(case.now)
        assert case.until_due() == pytest.approx(10.0)
        assert case.core.requests == 1

    def test_packets_reset_patience_and_pauses(self) -> None:
        case = Case()
        case.connected()
        case.advance(10.0)
        for _ in range(3):
            case.error()
            case.advance(case.until_due())
        case.hear(offer("2"))
        case.peer(PeerState.CONNECTED, "2")
        assert case.until_due() == pytest.approx(20.0)
        case.core.media_arrived(case.now)
        assert case.until_due() == pytest.approx(10.0)
        case.peer(PeerState.FAILED, "2")
        case.assert_retry_planned(0.75, 1.25)

    def test_a_stopped_stream_begins_with_fresh_patience(self) -> None:
        case = Case()
        case.connected()
        case.advance(10.0)
        case.core.stop()
        case.connected()
        assert case.until_due() == pytest.approx(10.0)

    def test_packets_of_no_connection_count_nothing(self) -> None:
        case = Case()
        case.start()
        case.now += 5.0
        case.core.media_arrived(case.now)
        assert case.until_due() == 7.0


class TestPublication:
    """Specification: "Publishing"; the SFU answers our offer."""

    def test_the_normal_way(self) -> None:
        core = Publication("me1")
        signal = core.offer("v=0 offer", 100.0)
        assert (signal.kind, signal.sid, signal.sdp) == ("offer", "me1", "v=0 offer")
        core.sent("5")
        assert core.deadline() == 112.0
        assert core.receive(candidate("me1")) == []
        answer = MediaSignal(kind="answer", sid="me1", sdp="v=0 answer")
        assert core.receive(answer) == [
            Answer("me1", "v=0 answer"),
            AddCandidate("me1", FIRST),
        ]
        assert core.receive(candidate(None, SECOND)) == [AddCandidate("me1", SECOND)]
        assert core.deadline() is None
        # A second answer, or an error that comes too late, changes nothing.
        assert core.receive(answer) == []
        assert core.receive_error("5", "late")
        assert core.error is None

    def test_answers_of_an_earlier_publication(self) -> None:
        core = Publication("me2")
        core.offer("v=0", 100.0)
        old = MediaSignal(kind="answer", sid="me1", sdp="v=0")
        assert core.receive(old) == []
        assert core.receive(candidate("me1")) == []
        assert core.deadline() is not None

    def test_refused(self) -> None:
        core = Publication("me1")
        core.offer("v=0", 100.0)
        core.sent("5")
        assert not core.receive_error("6", "not ours")
        assert core.error is None
        assert core.receive_error("5", "not allowed")
        assert core.error == "not allowed"
        assert core.deadline() is None

    def test_no_answer(self) -> None:
        core = Publication("me1", timeout_s=12.0)
        core.tick(0.0)
        core.offer("v=0", 100.0)
        core.tick(111.9)
        assert core.error is None
        core.tick(112.0)
        assert core.error == "no answer within 12 s"
        assert core.deadline() is None

    @pytest.mark.parametrize(
        "signal",
        [
            MediaSignal(kind="answer", sid="me1"),
            MediaSignal(kind="candidate", sid="me1"),
            MediaSignal(kind="offer", sid="me1", sdp="v=0"),
        ],
    )
    def test_signals_without_use(self, signal: MediaSignal) -> None:
        assert Publication("me1").receive(signal) == []


class TestMediaSignal:
    """Reading and writing the `data` of messages."""

    def test_offer(self) -> None:
        data = {
            "type": "offer",
            "from": "P",
            "to": "me",
            "roomType": "screen",
            "sid": "9",
            "payload": {"type": "offer", "sdp": "v=0"},
        }
        assert MediaSignal.from_data(data, "other") == MediaSignal(
            kind="offer", room_type="screen", sid="9", sdp="v=0", sender="P"
        )

    def test_candidate_without_from(self) -> None:
        data = {"type": "candidate", "payload": {"candidate": SECOND}}
        assert MediaSignal.from_data(data, "P") == MediaSignal(
            kind="candidate", candidate=SECOND, sender="P"
        )

    @pytest.mark.parametrize(
        "data", [None, 3, [], {}, {"type": ["offer"]}, {"type": "mute"}]
    )
    def test_other_data(self, data: Any) -> None:
        assert MediaSignal.from_data(data, "P") is None

    def test_odd_values(self) -> None:
        data = {
            "type": "offer",
            "sid": 9,
            "roomType": 3,
            "payload": {"sdp": 1, "candidate": "x"},
        }
        assert MediaSignal.from_data(data, None) == MediaSignal(kind="offer")
        data = {"type": "offer", "payload": "x"}
        assert MediaSignal.from_data(data, None) == MediaSignal(kind="offer")

    def test_messages_to_the_server(self) -> None:
        request = MediaSignal(kind="requestoffer").to_message("P")
        assert request.data == {"type": "requestoffer", "roomType": "video"}
        assert request.recipient is not None
        assert request.recipient.session_id == "P"
        answer = MediaSignal(kind="answer", sid="9", sdp="v=0").to_message("P")
        assert answer.data == {
            "type": "answer",
            "roomType": "video",
            "to": "P",
            "sid": "9",
            "payload": {"type": "answer", "sdp": "v=0"},
        }
        trickled = MediaSignal(kind="candidate", sid="9", candidate=FIRST)
        assert trickled.to_message("P").data["payload"] == {"candidate": FIRST}

    def test_network_addresses_stay_out_of_repr(self) -> None:
        signal = MediaSignal(kind="offer", sdp="PRIVATE", candidate={"x": "PRIVATE"})
        actions = [OpenPeer("1", "PRIVATE"), AddCandidate("1", {"x": "PRIVATE"})]
        assert "PRIVATE" not in repr([signal, *actions])
