# SPDX-License-Identifier: AGPL-3.0-or-later
"""What stands in the caption box: blocks of one speaker, made of chunks. Pure."""

from __future__ import annotations

from collections import deque

from attrs import asdict, define, field, frozen

__all__ = [
    "KEPT_BLOCKS",
    "KEPT_CHUNKS",
    "KEPT_PEOPLE",
    "Block",
    "CaptionBoard",
    "Chunk",
]

KEPT_BLOCKS = 6
"""Blocks kept for browsers that come later; the box shows at most four lines."""

KEPT_CHUNKS = 8
"""Chunks kept in one block; older ones have scrolled out long ago."""

KEPT_PEOPLE = 64
"""Speakers with a tile of their own; more share the last colour, without a tile."""


@frozen(kw_only=True)
class Chunk:
    """One caption text."""

    id: int
    """Number of the chunk; a partial and its final share it."""
    text: str = field(repr=False)
    """The caption, without white space around it."""
    final: bool
    """Whether it stays."""
    lang: str
    """Language tag as HTML wants it: "pt-BR", not "pt_BR"."""


@define(kw_only=True)
class Block:
    """Consecutive chunks of one speaker, under one name line."""

    id: int
    """Number of the block, growing."""
    speaker: str
    """Display name."""
    person: int
    """Number of the speaker, in the order of appearance; picks the colour."""
    chunks: deque[Chunk] = field(factory=lambda: deque(maxlen=KEPT_CHUNKS))
    """Chunks in the order of speaking, the oldest dropped."""

    def to_dict(self) -> dict[str, object]:
        """Return the block as JSON values."""
        return {
            "id": self.id,
            "speaker": self.speaker,
            "person": self.person,
            "chunks": [asdict(chunk) for chunk in self.chunks],
        }


class CaptionBoard:
    """Folds captions into blocks, by the rules of Talk's caption box.

    A caption joins the last block if the speaker is the same, else it begins a new
    one; it replaces a text of the same speaker that was not final. Unlike in Talk
    such a text is replaced wherever it stands: when two people speak at once, each
    one's words grow in one place.

    Args:
        people: Display names of those who will speak, for colours and tiles.
    """

    def __init__(self, people: tuple[str, ...] = ()) -> None:
        self._people = list(dict.fromkeys(people))[:KEPT_PEOPLE]
        self._blocks: deque[Block] = deque(maxlen=KEPT_BLOCKS)
        self._ids = 0

    @property
    def people(self) -> tuple[str, ...]:
        """Display names in the order of appearance."""
        return tuple(self._people)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks still kept, oldest first."""
        return tuple(self._blocks)

    def show(self, speaker: str, text: str, *, final: bool, lang: str) -> Block | None:
        """Take one caption in.

        Args:
            speaker: Display name.
            text: Cumulative text since this speaker's last final.
            final: Whether it stays.
            lang: Language id of Talk.

        Returns:
            The block that is new or has changed; None if the text is empty.
        """
        text = text.strip()
        if not text:
            return None
        lang = lang.replace("_", "-")
        block = self._open_block(speaker)
        if block is not None:
            chunk_id = block.chunks.pop().id
        else:
            block = self._block_for(speaker)
            chunk_id = self._next_id()
        block.chunks.append(Chunk(id=chunk_id, text=text, final=final, lang=lang))
        return block

    def _open_block(self, speaker: str) -> Block | None:
        """The block whose last chunk is this speaker's and not final yet."""
        for block in reversed(self._blocks):
            if block.speaker == speaker:
                return None if block.chunks[-1].final else block
        return None

    def _block_for(self, speaker: str) -> Block:
        if self._blocks and self._blocks[-1].speaker == speaker:
            return self._blocks[-1]
        block = Block(id=self._next_id(), speaker=speaker, person=self._person(speaker))
        self._blocks.append(block)
        return block

    def _person(self, speaker: str) -> int:
        if speaker not in self._people:
            if len(self._people) == KEPT_PEOPLE:
                return KEPT_PEOPLE
            self._people.append(speaker)
        return self._people.index(speaker)

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids
