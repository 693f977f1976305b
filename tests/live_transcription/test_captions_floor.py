# SPDX-License-Identifier: AGPL-3.0-or-later
"""Several speak at once: who has the floor in a reader's caption box."""

from __future__ import annotations

from .caption_box import Box


class TestFloor:
    def test_second_speaker_waits_for_the_end_of_the_sentence(self) -> None:
        box = Box()
        box.partial("alice", "as I was")
        box.partial("bob", "but")
        box.wait(0.4)
        box.partial("alice", "as I was saying")
        box.partial("bob", "but listen")
        assert [speaker for speaker, _, _ in box.texts()] == ["alice", "alice"]
        box.final("alice", "as I was saying.")
        assert box.texts()[-2:] == [
            ("alice", "as I was saying.", True),
            ("bob", "but listen", False),
        ]

    def test_a_pause_passes_the_floor_on(self) -> None:
        box = Box()
        box.partial("alice", "well")
        box.wait(0.1)
        box.partial("bob", "yes")
        box.wait(1.0)
        assert box.texts() == [
            ("alice", "well", False),
            ("alice", "well", True),
            ("bob", "yes", False),
        ]

    def test_words_wait_at_most_two_seconds(self) -> None:
        box = Box()
        words = [f"w{number}" for number in range(80)]
        for count in range(1, len(words) + 1):
            box.partial("alice", " ".join(words[:count]))
            if count == 10:
                box.partial("bob", "may I")
                said = box.now
            box.wait(0.1)
        first = next(at for at, who, _, _ in box.got["reader"] if who == "bob")
        assert first - said <= 2.0 + 1e-9

    def test_finals_wait_at_most_two_seconds(self) -> None:
        box = Box()
        text = "a"
        said = box.now + 1.0
        for step in range(50):
            text += f" b{step}"
            box.partial("alice", text)
            if step == 10:
                said = box.now
                box.final("bob", "short remark")
            box.wait(0.1)
        (bob,) = [sent for sent in box.got["reader"] if sent[1] == "bob"]
        assert bob[2:] == ("short remark", True)
        assert bob[0] - said <= 2.0 + 1e-9

    def test_overlap_switches_rarely_and_loses_and_doubles_nothing(self) -> None:
        box = Box()
        texts = {"alice": "", "bob": ""}
        for step in range(100):
            for speaker in texts:
                texts[speaker] = f"{texts[speaker]} {speaker}{step}".strip()
                box.partial(speaker, texts[speaker])
            box.wait(0.1)
        for speaker, text in texts.items():
            box.final(speaker, text)
        box.wait(5)
        order = [speaker for speaker, _, _ in box.texts()]
        switches = sum(a != b for a, b in zip(order, order[1:], strict=False))
        assert switches <= 7
        for speaker, text in texts.items():
            chunks = [said for who, said, final in box.texts() if final]
            assert chunks
            joined = " ".join(
                said for who, said, final in box.texts() if final and who == speaker
            )
            assert joined == text

    def test_punctuation_after_an_early_cut_repeats_nothing(self) -> None:
        box = Box()
        box.partial("alice", "Hello")
        box.partial("bob", "Hi")
        box.wait(1)
        box.partial("alice", "Hello, all")
        box.wait(3)
        box.partial("alice", "Hello, all of you")
        box.partial("bob", "Hi there")
        box.wait(3)
        box.final("alice", "Hello, all of you.")
        box.wait(3)
        finals = [text for who, text, final in box.texts() if final and who == "alice"]
        assert "".join(finals).replace(" ", "") == "Hello,allofyou."
