"""Our own stream: offer and answer."""

from __future__ import annotations

import pytest

from spreed_signaling.protocol.negotiation import (
    AddCandidate,
    Answer,
    MediaSignal,
    Publication,
)

from .case import FIRST, SECOND, candidate


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
