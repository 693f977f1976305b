"""Offers, candidates and sids of one subscription."""

from __future__ import annotations

import pytest

from spreed_signaling.protocol.negotiation import (
    AddCandidate,
    Answer,
    ClosePeer,
    MediaSignal,
    OpenPeer,
    PeerState,
)

from .case import FIRST, SECOND, Case, candidate, offer


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
