# SPDX-License-Identifier: AGPL-3.0-or-later
"""The caption policy: cases P1 to P7, P10, P12 and P13 of the contract."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from live_transcription.notices import Notice, is_notice

from .caption_box import Box


class TestPartials:
    def test_interval_is_at_least_300_ms(self) -> None:
        box = Box()
        box.say("alice", "one two three four five six seven eight nine ten", 0.05)
        times = [at for at, _, _, final in box.got["reader"] if not final]
        assert len(times) >= 2
        assert all(b - a >= 0.3 - 1e-9 for a, b in zip(times, times[1:], strict=False))

    def test_interval_holds_across_finals(self) -> None:
        box = Box()
        box.partial("alice", "yes")
        box.wait(0.1)
        box.final("alice", "yes")
        box.partial("alice", "and")
        assert box.texts()[-1] == ("alice", "yes", True)
        box.wait(0.2)
        assert box.texts()[-1] == ("alice", "and", False)

    def test_are_cumulative_prefixes_of_the_final(self) -> None:
        box = Box()
        box.say("alice", "this is a longer sentence for everybody", 0.2)
        *partials, last = box.texts()
        assert partials
        assert last == ("alice", "this is a longer sentence for everybody", True)
        assert all(last[1].startswith(text) for _, text, _ in partials)
        shown = [text for _, text, _ in partials]
        assert shown == sorted(shown, key=len)

    def test_switched_off(self) -> None:
        box = Box(partials=False)
        box.say("alice", "only the final arrives")
        assert box.texts() == [("alice", "only the final arrives", True)]


class TestText:
    def test_nothing_empty_or_blank(self) -> None:
        box = Box()
        box.partial("alice", "")
        box.partial("alice", "  \n ")
        box.final("alice", " ")
        box.wait(5)
        assert box.texts() == []

    def test_nothing_unchanged(self) -> None:
        box = Box()
        for _ in range(5):
            box.partial("alice", "hello")
            box.wait(0.5)
        assert box.texts() == [("alice", "hello", False)]

    def test_spaces_are_tidied(self) -> None:
        box = Box()
        box.final("alice", "  hello \n world ")
        assert box.texts() == [("alice", "hello world", True)]

    def test_shown_text_is_never_taken_back(self) -> None:
        box = Box()
        box.partial("alice", "one two")
        box.wait(1)
        box.partial("alice", "one")
        box.partial("alice", "other words")
        box.wait(1)
        assert box.texts() == [("alice", "one two", False)]

    def test_a_final_may_correct(self) -> None:
        box = Box()
        box.partial("alice", "wreck a nice")
        box.final("alice", "recognise speech")
        assert box.texts()[-1] == ("alice", "recognise speech", True)


class TestFinals:
    def test_go_at_once(self) -> None:
        box = Box()
        box.partial("alice", "hello")
        box.final("alice", "hello world")
        assert box.got["reader"][-1] == (100.0, "alice", "hello world", True)

    def test_exactly_one_for_each_sentence(self) -> None:
        box = Box()
        for number in range(5):
            box.say("alice", f"sentence number {number}")
            box.wait(0.7)
        finals = [text for _, text, final in box.texts() if final]
        assert finals == [f"sentence number {number}" for number in range(5)]

    def test_a_recogniser_that_fails_leaves_no_open_chunk(self) -> None:
        box = Box()
        box.partial("alice", "the last")
        box.partial("alice", "the last words")
        box.policy.close("alice", box.now)
        box.collect()
        assert box.texts()[-1] == ("alice", "the last words", True)
        box.partial("alice", "again")
        box.wait(1)
        assert box.texts()[-1] == ("alice", "again", False)

    def test_an_empty_final_closes_what_is_shown(self) -> None:
        box = Box()
        box.partial("alice", "hello")
        box.final("alice", "")
        assert box.texts() == [("alice", "hello", False), ("alice", "hello", True)]

    def test_closing_twice_says_nothing_new(self) -> None:
        box = Box()
        box.say("alice", "done")
        before = box.texts()
        box.policy.close("alice", box.now)
        box.policy.stop(box.now)
        box.collect()
        assert box.texts() == before

    def test_stop_sends_what_is_pending(self) -> None:
        box = Box()
        box.partial("alice", "good")
        box.partial("alice", "good bye")
        box.partial("bob", "see you")
        box.policy.stop(box.now)
        box.collect()
        finals = {(speaker, text) for speaker, text, final in box.texts() if final}
        assert finals == {("alice", "good bye"), ("bob", "see you")}
        box.wait(10)
        assert len(box.texts()) == 3

    def test_a_speaker_who_left_is_finished_and_forgotten(self) -> None:
        box = Box()
        box.partial("alice", "I am talking")
        box.partial("bob", "I must go")
        box.policy.forget("bob", box.now)
        box.collect()
        assert box.texts()[-1] == ("bob", "I must go", True)
        box.policy.forget("nobody", box.now)
        box.partial("alice", "I am talking still")
        box.wait(1)
        assert box.texts()[-1] == ("alice", "still", False)


class TestNotices:
    """Who cannot hear is told where words are missing or late."""

    def test_between_the_words_around_it(self) -> None:
        box = Box()
        box.final("alice", "before")
        box.notice("alice", Notice.LOST)
        box.final("alice", "behind")
        assert box.texts() == [
            ("alice", "before", True),
            ("alice", "[…]", True),
            ("alice", "behind", True),
        ]

    def test_a_sentence_goes_on_behind_it(self) -> None:
        box = Box()
        box.partial("alice", "this is")
        box.notice("alice", Notice.LOST)
        box.wait(1)
        box.partial("alice", "this is what")
        box.wait(1)
        box.final("alice", "this is what was said")
        finals = [text for _, text, final in box.texts() if final]
        assert finals == ["this is", "[…]", "what was said"]

    def test_not_twice_without_a_word_between(self) -> None:
        box = Box()
        for _ in range(2):
            box.notice("alice", Notice.LATE)
            box.notice("alice", Notice.LATE)
            box.partial("alice", "word")
            box.final("alice", "word")
            box.notice("alice", Notice.LATE)
        finals = [text for _, text, final in box.texts() if final]
        assert finals == ["…", "word", "…", "word", "…"]

    def test_late_words_may_be_lost_in_the_end(self) -> None:
        box = Box()
        box.notice("alice", Notice.LATE)
        box.notice("alice", Notice.LOST)
        assert [text for _, text, _ in box.texts()] == ["…", "[…]"]

    def test_nobody_gets_her_own(self) -> None:
        box = Box("alice", "bob")
        box.notice("alice", Notice.LOST)
        assert box.texts("alice") == []
        assert box.texts("bob") == [("alice", "[…]", True)]


class TestReaders:
    def test_never_get_their_own_words(self) -> None:
        box = Box("alice", "bob")
        box.say("alice", "hello bob")
        assert box.got["alice"] == []
        assert box.texts("bob")[-1] == ("alice", "hello bob", True)

    def test_her_own_speech_does_not_hold_others_back(self) -> None:
        box = Box("alice")
        box.partial("alice", "I talk and talk")
        box.partial("bob", "me too")
        assert box.texts("alice") == [("bob", "me too", False)]

    def test_who_stopped_gets_nothing_more(self) -> None:
        box = Box("one", "two")
        box.partial("alice", "hello")
        box.policy.set_readers(["two"], box.now)
        box.final("alice", "hello all")
        box.wait(3)
        assert box.texts("one") == [("alice", "hello", False)]
        assert box.texts("two")[-1] == ("alice", "hello all", True)

    def test_who_comes_late_gets_the_sentence_so_far(self) -> None:
        box = Box("one")
        box.partial("alice", "the beginning")
        box.policy.set_readers(["one", "two"], box.now)
        box.wait(1)
        box.partial("alice", "the beginning goes on")
        assert box.texts("two") == [("alice", "the beginning goes on", False)]

    def test_each_message_once_for_each_reader(self) -> None:
        box = Box("one", "two")
        box.say("alice", "for both of you")
        assert box.texts("one") == box.texts("two")
        assert len(box.texts("one")) == len(set(box.texts("one")))


def test_message_data_is_what_talk_reads() -> None:
    box = Box()
    box.final("alice", "bonjour", "fr")
    assert [message.data() for message in box.messages] == [
        {
            "type": "transcript",
            "message": "bonjour",
            "langId": "fr",
            "speakerSessionId": "alice",
            "final": True,
        }
    ]
    assert "bonjour" not in repr(box.messages)


def test_language_is_that_of_the_words_not_of_the_moment() -> None:
    box = Box()
    box.partial("alice", "as I was", "en")
    box.partial("bob", "bonjour", "fr")
    box.wait(3)
    languages = {one.speaker_session_id: one.lang_id for one in box.messages}
    assert languages == {"alice": "en", "bob": "fr"}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["alice", "bob", "carol"]),
        st.sampled_from(["word", "word", "word", "final", "close", *Notice]),
        st.floats(0.0, 1.5),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_every_word_comes_once_and_in_order(
    steps: list[tuple[str, str, float]],
) -> None:
    box = Box()
    said: dict[str, list[str]] = defaultdict(list)
    open_words: dict[str, list[str]] = defaultdict(list)
    for number, (speaker, kind, pause_s) in enumerate(steps):
        if kind == "word":
            said[speaker].append(f"w{number}")
            open_words[speaker].append(f"w{number}")
            box.partial(speaker, " ".join(open_words[speaker]))
        elif kind == "final":
            box.final(speaker, " ".join(open_words.pop(speaker, [])))
        elif isinstance(kind, Notice):
            box.notice(speaker, kind)
        else:
            box.policy.close(speaker, box.now)
            box.collect()
            open_words.pop(speaker, None)
        box.wait(pause_s)
    box.policy.stop(box.now)
    box.collect()
    for speaker, words in said.items():
        finals = [text for who, text, final in box.texts() if final and who == speaker]
        shown = [text for text in finals if not is_notice(text)]
        assert " ".join(shown) == " ".join(words)
    assert all(text.strip() for _, text, _ in box.texts())
