"""Media signaling as it is on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from spreed_signaling.protocol.negotiation import AddCandidate, MediaSignal, OpenPeer

from .case import FIRST, SECOND


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
