# SPDX-License-Identifier: AGPL-3.0-or-later
"""One speaker's words as one reader sees them: sent, shown, waiting. Pure.

What waits is sent by whoever decides about the floor (`captions.py`); here is only
what there is to send, and that no word comes twice or is taken back.
"""

from __future__ import annotations

from attrs import Factory, define, field, frozen

__all__ = ["Chunk", "Lane"]


@frozen(kw_only=True)
class Chunk:
    """What Talk's caption box shows as one piece of text."""

    text: str = field(repr=False)
    lang_id: str


@define
class Lane:
    """What one reader has seen, and will see, of one speaker."""

    finals: list[Chunk] = Factory(list)
    """Complete chunks not sent yet."""
    pending: Chunk | None = None
    """Newest text of the open sentence that was not sent yet."""
    shown: Chunk | None = None
    """The unfinished chunk on the reader's screen."""
    text: str = ""
    """All of the open sentence so far."""
    committed: str = ""
    """Begin of it that was closed early to pass on the floor."""
    partial_at: float = float("-inf")
    """When the last partial was sent."""
    waiting_since: float | None = None
    active_at: float = float("-inf")
    """When the speaker last said something new."""
    noticed: str = ""
    """The notice that came last, if no word came since."""

    def rest(self, text: str) -> str:
        """The part of the open sentence that is not closed yet."""
        if self.committed and text.startswith(self.committed):
            return text[len(self.committed) :].strip()
        return text

    def grow(self, text: str, lang_id: str, now: float) -> None:
        """The open sentence grew; `text` is all of it so far."""
        rest = self.rest(text)
        newest = self.pending or self.shown
        known = "" if newest is None else newest.text
        # Not longer: unchanged, or it would take words back.
        if len(rest) <= len(known) or not rest.startswith(known):
            return
        self.text = text
        self.noticed = ""
        self.pending = Chunk(text=rest, lang_id=lang_id)
        self._touched(now)

    def finish(self, text: str, lang_id: str, now: float) -> None:
        """The open sentence is complete."""
        rest = self.rest(text)
        if rest:
            self.noticed = ""
            self._complete(Chunk(text=rest, lang_id=lang_id), now)
        else:
            self.give_up(now)

    def notice(self, text: str, lang_id: str, now: float) -> None:
        """Show this in the place of words, once until there are words again."""
        if text == self.noticed:
            return
        # The sentence may go on behind it.
        begun = self.commit()
        self.finals += [] if begun is None else [begun]
        self.finals.append(Chunk(text=text, lang_id=lang_id))
        self.noticed = text
        self._touched(now)

    def give_up(self, now: float) -> None:
        """No more words of the open sentence will come: what there is, is complete."""
        self._complete(self.pending or self.shown, now)

    def commit(self) -> Chunk | None:
        """Close the open chunk; the sentence goes on in a new one."""
        newest = self.pending or self.shown
        self.pending = self.shown = None
        self.committed = self.text
        return newest

    @property
    def open(self) -> bool:
        """Whether an unfinished chunk is on the screen or about to be."""
        return self.shown is not None or self.pending is not None

    @property
    def waiting(self) -> bool:
        """Whether there is something to send."""
        return bool(self.finals) or self.pending is not None

    def _complete(self, chunk: Chunk | None, now: float) -> None:
        self.text = self.committed = ""
        self.pending = None
        if chunk is not None:
            self.finals.append(chunk)
            self._touched(now)

    def _touched(self, now: float) -> None:
        self.active_at = now
        if self.waiting_since is None:
            self.waiting_since = now
