"""What makes a subscription ask again, and when."""

from __future__ import annotations

import pytest

from spreed_signaling.protocol.negotiation import PeerState

from .case import Case, offer


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
        assert waits == [10.0, 20.0, 30.0, 30.0, 30.0]

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
