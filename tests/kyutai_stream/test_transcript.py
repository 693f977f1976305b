from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.events import Final, FinalReason, Partial
from kyutai_stream.transcript import SegmentRules, Transcript


def said(
    transcript: Transcript, text: str, *, start: float = 0.0, step: float = 0.3
) -> None:
    """Say words, `step` seconds apart, heard as they are spoken."""
    for index, word in enumerate(text.split()):
        at = start + index * step
        transcript.receive_word(word, index=index, start=at, heard=at)


def finals(transcript: Transcript) -> list[Final]:
    return [event for event in transcript.events() if isinstance(event, Final)]


def only_final(transcript: Transcript) -> Final:
    (final,) = finals(transcript)
    return final


class TestPartials:
    def test_each_word_lengthens_the_partial(self) -> None:
        transcript = Transcript()
        said(transcript, "good morning all")
        events = transcript.events()
        assert [event.text for event in events] == [
            "good",
            "good morning",
            "good morning all",
        ]
        assert {event.segment_id for event in events} == {0}
        assert transcript.events() == []

    def test_white_space_is_normalised_and_empty_words_are_ignored(self) -> None:
        transcript = Transcript()
        transcript.receive_word("  two\n words ", index=0, start=0, heard=0)
        transcript.receive_word(" ", index=1, start=1, heard=1)
        (partial,) = transcript.events()
        assert partial.text == "two words"
        assert "two" not in repr(partial)


class TestSilence:
    def test_audio_without_a_word_closes(self) -> None:
        transcript = Transcript()
        said(transcript, "well then")
        transcript.receive_heard(1.39)
        assert finals(transcript) == []
        transcript.receive_heard(1.41)
        assert only_final(transcript).reason is FinalReason.SILENCE
        transcript.receive_heard(9.0)
        assert transcript.events() == []

    @pytest.mark.parametrize(
        "text", ["Yes.", "Really?", "No!", "Well…", 'He said "no."']
    )
    def test_a_sentence_end_closes_sooner(self, text: str) -> None:
        transcript = Transcript()
        transcript.receive_word(text, index=0, start=0, heard=0)
        transcript.receive_heard(0.61)
        assert only_final(transcript).reason is FinalReason.PUNCTUATION

    def test_a_backend_with_its_own_endpoints_is_left_alone(self) -> None:
        transcript = Transcript(SegmentRules(count_silence=False))
        said(transcript, "Yes.")
        transcript.receive_heard(99.0)
        assert finals(transcript) == []
        transcript.close(FinalReason.ENDPOINT)
        assert only_final(transcript).reason is FinalReason.ENDPOINT


class TestPause:
    HORIZONS = (0.5, 1.0, 2.0, 3.0)

    def pause(self, transcript: Transcript, value: float) -> float | None:
        return transcript.receive_pause((0.0, 0.0, value, 0.0), self.HORIZONS)

    def warm(self, transcript: Transcript) -> None:
        for _ in range(12):
            assert self.pause(transcript, 1.0) is None

    def test_two_sure_steps_after_a_word_close(self) -> None:
        transcript = Transcript()
        self.warm(transcript)
        said(transcript, "hello")
        values = [self.pause(transcript, 1.0) for _ in range(3)]
        assert values[:2] == [None, None]
        assert values[2] is not None and values[2] > 0.6
        assert only_final(transcript).reason is FinalReason.ENDPOINT

    def test_a_word_begins_the_count_anew(self) -> None:
        transcript = Transcript()
        self.warm(transcript)
        said(transcript, "hello")
        self.pause(transcript, 1.0)
        self.pause(transcript, 1.0)
        said(transcript, "again", start=1)
        assert self.pause(transcript, 1.0) is None
        assert finals(transcript) == []

    def test_the_first_steps_of_a_connection_are_noise(self) -> None:
        transcript = Transcript()
        said(transcript, "hello")
        self.warm(transcript)
        assert finals(transcript) == []
        transcript.close(FinalReason.DISCONNECT)
        transcript.begin_epoch()
        said(transcript, "again")
        self.warm(transcript)
        assert self.pause(transcript, 1.0) is not None

    def test_unsure_steps_do_not_close(self) -> None:
        transcript = Transcript()
        said(transcript, "hello")
        for _ in range(40):
            assert self.pause(transcript, 0.5) is None

    def test_a_server_that_decides_itself_is_believed_at_once(self) -> None:
        transcript = Transcript()
        said(transcript, "one")
        transcript.events()
        assert transcript.receive_pause((1.0, 1.0), (0.5, 2.0)) == 1.0
        assert only_final(transcript).reason is FinalReason.ENDPOINT

    def test_no_probabilities_no_decision(self) -> None:
        transcript = Transcript()
        said(transcript, "hello")
        assert transcript.receive_pause((), ()) is None


class TestPausesThatWereLeftOut:
    def test_a_word_far_away_begins_a_segment(self) -> None:
        # A session that catches up sends little of a pause: `heard` hardly moves.
        transcript = Transcript()
        transcript.receive_word("one", index=0, start=1.0, heard=2.0)
        transcript.receive_word_end(index=0, end=1.4)
        transcript.receive_word("two", index=1, start=2.6, heard=2.5)
        (final,) = finals(transcript)
        assert (final.text, final.reason) == ("one", FinalReason.SILENCE)

    def test_but_not_where_the_backend_knows_the_ends(self) -> None:
        transcript = Transcript(SegmentRules(count_silence=False))
        transcript.receive_word("one", index=0, start=1.0, heard=2.0)
        transcript.receive_word("two", index=1, start=5.0, heard=2.5)
        assert finals(transcript) == []


class TestLength:
    def test_a_clause_end_closes_a_long_segment(self) -> None:
        transcript = Transcript()
        said(transcript, "word " * 30 + "end, more", step=0.1)
        final = only_final(transcript)
        assert final.reason is FinalReason.LENGTH
        assert final.text.endswith("end,")
        assert transcript.is_open

    def test_a_clause_end_closes_a_lasting_segment(self) -> None:
        transcript = Transcript(SegmentRules(silence_s=20.0))
        said(transcript, "so we wait, and", step=3.0)
        assert finals(transcript) == []
        said(transcript, "on, then", start=9.0, step=0.1)
        assert [final.text for final in finals(transcript)] == ["so we wait, and on,"]

    def test_no_word_joins_after_the_longest_time(self) -> None:
        transcript = Transcript(SegmentRules(silence_s=20.0))
        said(transcript, "one two", step=10.5)
        (final,) = finals(transcript)
        assert (final.text, final.reason) == ("one", FinalReason.LENGTH)

    def test_one_endless_word_is_left_whole(self) -> None:
        transcript = Transcript()
        transcript.receive_word("a" * 500, index=0, start=0, heard=0)
        transcript.close(FinalReason.END)
        assert len(only_final(transcript).text) == 500


class TestEnds:
    def test_the_known_end_of_the_last_word_counts(self) -> None:
        transcript = Transcript()
        said(transcript, "one two")
        transcript.receive_word_end(index=0, end=0.2)
        transcript.receive_word_end(index=1, end=0.75)
        transcript.close(FinalReason.FLUSH)
        final = only_final(transcript)
        assert (final.start, final.end) == (0.0, 0.75)
        # Late: nothing is open.
        transcript.receive_word_end(index=1, end=5.0)

    def test_an_unknown_end_is_estimated(self) -> None:
        transcript = Transcript()
        said(transcript, "hello")
        transcript.close(FinalReason.FLUSH)
        assert 0 < only_final(transcript).end < 1

    def test_closing_nothing_says_nothing(self) -> None:
        transcript = Transcript()
        transcript.close(FinalReason.END)
        assert transcript.events() == []

    def test_an_epoch_cannot_begin_over_an_open_segment(self) -> None:
        transcript = Transcript()
        said(transcript, "hello")
        with pytest.raises(AssertionError):
            transcript.begin_epoch()


words = st.text(alphabet="ab.,?", min_size=0, max_size=30)
steps = st.tuples(st.just("word"), words) | st.tuples(
    st.sampled_from(["quiet", "pause", "close"]), st.just("")
)


@given(st.lists(steps, max_size=60))
def test_partials_grow_and_each_segment_has_one_final(
    script: list[tuple[str, str]],
) -> None:
    transcript = Transcript()
    clock = 0.0
    spoken = []
    events: list[Partial | Final] = []
    for index, (kind, text) in enumerate(script):
        clock += 0.4
        if kind == "word":
            spoken += text.split()
            transcript.receive_word(text, index=index, start=clock, heard=clock)
        elif kind == "quiet":
            transcript.receive_heard(clock)
        elif kind == "pause":
            transcript.receive_pause((1.0,), (2.0,))
        else:
            transcript.close(FinalReason.FLUSH)
        events += transcript.events()
    transcript.close(FinalReason.END)
    events += transcript.events()

    last: dict[int, str] = {}
    closed: list[int] = []
    for event in events:
        assert event.segment_id not in closed
        before = last.get(event.segment_id, "")
        if isinstance(event, Final):
            assert event.text == before
            assert event.end >= event.start
            closed.append(event.segment_id)
        else:
            assert event.text.startswith(before)
            assert event.text != before
        last[event.segment_id] = event.text
    assert closed == sorted(last)
    assert " ".join(last.values()).split() == spoken
    assert all(len(text) <= 200 for text in last.values())
