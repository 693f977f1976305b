# SPDX-License-Identifier: AGPL-3.0-or-later
from __future__ import annotations

from live_transcription.demo.board import (
    KEPT_BLOCKS,
    KEPT_CHUNKS,
    KEPT_PEOPLE,
    CaptionBoard,
)


def texts(board: CaptionBoard) -> list[tuple[str, list[str]]]:
    return [(b.speaker, [chunk.text for chunk in b.chunks]) for b in board.blocks]


def say(board: CaptionBoard, speaker: str, text: str, *, final: bool = True) -> None:
    board.show(speaker, text, final=final, lang="en")


class TestBlocks:
    def test_same_speaker_joins_the_block(self) -> None:
        board = CaptionBoard()
        say(board, "Alice", "one")
        say(board, "Alice", "two")
        assert texts(board) == [("Alice", ["one", "two"])]

    def test_change_of_speaker_begins_a_block(self) -> None:
        board = CaptionBoard()
        for speaker in ("Alice", "Ben", "Alice"):
            say(board, speaker, "hm")
        assert [block.speaker for block in board.blocks] == ["Alice", "Ben", "Alice"]
        assert [block.person for block in board.blocks] == [0, 1, 0]

    def test_text_that_is_not_final_is_replaced(self) -> None:
        board = CaptionBoard()
        say(board, "Alice", "one")
        say(board, "Alice", "tw", final=False)
        say(board, "Alice", "two thr", final=False)
        partial = board.blocks[0].chunks[-1]
        say(board, "Alice", "two three")
        assert texts(board) == [("Alice", ["one", "two three"])]
        final = board.blocks[0].chunks[-1]
        assert (partial.id, partial.final) == (final.id, False)
        assert final.final

    def test_two_at_once_grow_each_in_one_place(self) -> None:
        board = CaptionBoard()
        say(board, "Alice", "I", final=False)
        say(board, "Ben", "but", final=False)
        say(board, "Alice", "I think", final=False)
        say(board, "Ben", "but no")
        say(board, "Alice", "I think so")
        assert texts(board) == [("Alice", ["I think so"]), ("Ben", ["but no"])]

    def test_numbers_of_chunks_and_blocks_are_unique(self) -> None:
        board = CaptionBoard()
        for speaker in ("Alice", "Ben", "Alice", "Alice"):
            say(board, speaker, "hm")
        chunks = [chunk.id for block in board.blocks for chunk in block.chunks]
        assert len(set(chunks)) == len(chunks) == 4


class TestTexts:
    def test_empty_text_changes_nothing(self) -> None:
        board = CaptionBoard()
        assert board.show("Alice", "  ", final=True, lang="en") is None
        assert board.blocks == ()

    def test_language_tag_is_written_for_html(self) -> None:
        block = CaptionBoard().show("Alice", " oi ", final=True, lang="pt_BR")
        assert block is not None
        assert block.to_dict() == {
            "id": 1,
            "speaker": "Alice",
            "person": 0,
            "chunks": [{"id": 2, "text": "oi", "final": True, "lang": "pt-BR"}],
        }


class TestBounds:
    def test_old_blocks_and_chunks_go(self) -> None:
        board = CaptionBoard()
        for number in range(20):
            say(board, f"talker {number % 2}", str(number))
        assert len(board.blocks) == KEPT_BLOCKS
        for number in range(20):
            say(board, "Alice", str(number))
        assert [c.text for c in board.blocks[-1].chunks][-1] == "19"
        assert len(board.blocks[-1].chunks) == KEPT_CHUNKS

    def test_people_are_bounded(self) -> None:
        board = CaptionBoard(("Alice", "Ben", "Alice"))
        assert board.people == ("Alice", "Ben")
        for number in range(100):
            say(board, str(number), "hm")
        assert len(board.people) == KEPT_PEOPLE
        assert board.blocks[-1].person == KEPT_PEOPLE
