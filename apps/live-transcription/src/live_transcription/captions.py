# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which caption goes to whom, and when. Pure: `now` is an argument.

Talk's caption box reveals one line per two seconds, opens a new block at every
change of speaker, and replaces an unfinished chunk only while it is the last one.
Hence, for each reader apart:

1. A speaker's partials are cumulative, at least 300 ms apart; finals go at once.
2. Nothing empty, nothing unchanged, nothing taken back.
3. One speaker has the floor. What others say meanwhile waits until the floor
   holder finishes a sentence or pauses, but never longer than two seconds; then
   the open chunk is closed with a final and its sentence goes on in a new one.
4. Nobody gets her own words.
5. Where words are missing or late there is a notice (`notices.py`), as a final.

Use: call what happened with `now`, then send everything `messages_to_send`
returns; call `tick(now)` when `deadline()` has come.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import field, frozen

from .lanes import Chunk, Lane
from .notices import Notice

__all__ = ["CaptionMessage", "CaptionPolicy", "CaptionRules"]


@frozen(kw_only=True)
class CaptionRules:
    """Times of the policy, in seconds."""

    partials: bool = True
    """False sends finals only."""
    partial_interval_s: float = 0.3
    """Least time between two partials of one speaker (the official app's; 80 ms
    was too chatty for many readers)."""
    hold_s: float = 2.0
    """Longest time that words wait for another speaker to finish."""
    pause_s: float = 0.8
    """A floor holder who says nothing new for this long has paused."""


@frozen(kw_only=True)
class CaptionMessage:
    """One message for one reader."""

    reader_session_id: str
    """The reader's HPB session id."""
    speaker_session_id: str
    text: str = field(repr=False)
    lang_id: str
    final: bool

    def data(self) -> dict[str, Any]:
        """Return the `data` of the signaling message, as Talk's clients read it."""
        return {
            "type": "transcript",
            "message": self.text,
            "langId": self.lang_id,
            "speakerSessionId": self.speaker_session_id,
            "final": self.final,
        }


class CaptionPolicy:
    """Turns the speakers' partials and finals into messages for the readers.

    Args:
        rules: Times and switches.
    """

    def __init__(self, rules: CaptionRules | None = None) -> None:
        self._rules = CaptionRules() if rules is None else rules
        self._views: dict[str, _View] = {}
        self._outgoing: list[CaptionMessage] = []

    # Receive: what happened.

    def set_readers(self, reader_session_ids: Iterable[str], now: float) -> None:
        """Set who gets captions from now on; the others get nothing more.

        Call `messages_to_send` next.
        """
        wanted = set(reader_session_ids)
        for reader in self._views.keys() - wanted:
            del self._views[reader]
        for reader in wanted - self._views.keys():
            self._views[reader] = _View(reader, self._rules)
        self._advance(now)

    def partial(self, speaker: str, text: str, lang_id: str, now: float) -> None:
        """A sentence grew; `text` is all of it so far.

        Call `messages_to_send` next.
        """
        text = _clean(text)
        if not text or not self._rules.partials:
            return
        for view in self._listeners(speaker):
            view.lane(speaker).grow(text, lang_id, now)
        self._advance(now)

    def final(self, speaker: str, text: str, lang_id: str, now: float) -> None:
        """A sentence is complete. Call `messages_to_send` next."""
        text = _clean(text)
        for view in self._listeners(speaker):
            view.lane(speaker).finish(text, lang_id, now)
        self._advance(now)

    def notice(self, speaker: str, notice: Notice, lang_id: str, now: float) -> None:
        """Words are missing or late; an open sentence may go on after it.

        Call `messages_to_send` next.
        """
        for view in self._listeners(speaker):
            view.lane(speaker).notice(notice, lang_id, now)
        self._advance(now)

    def close(self, speaker: str, now: float) -> None:
        """No more words of the open sentence will come: finish what there is.

        For speakers who left and recognisers that failed; without it the next
        sentence would replace the unfinished one. Call `messages_to_send` next.
        """
        for view in self._views.values():
            if speaker in view.lanes:
                view.lanes[speaker].give_up(now)
        self._advance(now)

    def forget(self, speaker: str, now: float) -> None:
        """`close`, and send what waits: this speaker's session id is gone."""
        self.close(speaker, now)
        for view in self._views.values():
            self._outgoing += view.forget(speaker, now)
        self._advance(now)

    def stop(self, now: float) -> None:
        """Send everything that waits, as finals. Call `messages_to_send` next."""
        for view in self._views.values():
            for speaker, lane in view.lanes.items():
                lane.give_up(now)
                self._outgoing += view.flush(speaker, now)

    # Collect.

    def messages_to_send(self) -> list[CaptionMessage]:
        """Return the messages due, oldest first; a second call returns none."""
        messages, self._outgoing = self._outgoing, []
        return messages

    # Time.

    def deadline(self) -> float | None:
        """Return when `tick` must be called next; None if never."""
        due = [view.deadline() for view in self._views.values()]
        return min((at for at in due if at is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due. Call `messages_to_send` next."""
        self._advance(now)

    def _listeners(self, speaker: str) -> list[_View]:
        return [view for reader, view in self._views.items() if reader != speaker]

    def _advance(self, now: float) -> None:
        for view in self._views.values():
            self._outgoing += view.advance(now)


class _View:
    """One reader's caption box: who has the floor, and who waits."""

    def __init__(self, reader: str, rules: CaptionRules) -> None:
        self._reader = reader
        self._rules = rules
        self._holder: str | None = None
        self.lanes: dict[str, Lane] = {}

    def lane(self, speaker: str) -> Lane:
        return self.lanes.setdefault(speaker, Lane())

    def advance(self, now: float) -> list[CaptionMessage]:
        messages: list[CaptionMessage] = []
        # Each round either ends or hands the floor to one of those who waited,
        # who then waits no more.
        while (holder := self._holder or self._next()) is not None:
            self._holder = holder
            messages += self._speak(holder, now)
            if self._next() is None or not self._must_yield(holder, now):
                break
            messages += self._commit(holder)
            self._holder = None
        return messages

    def flush(self, speaker: str, now: float) -> list[CaptionMessage]:
        """Send a lane's finals at once, whoever has the floor."""
        lane = self.lanes.get(speaker)
        if lane is None or not lane.waiting:
            return []
        messages = []
        if self._holder is not None and self._holder != speaker:
            messages += self._commit(self._holder)
        self._holder = speaker
        return messages + self._speak(speaker, now)

    def forget(self, speaker: str, now: float) -> list[CaptionMessage]:
        messages = self.flush(speaker, now)
        self.lanes.pop(speaker, None)
        if self._holder == speaker:
            self._holder = None
        return messages

    def deadline(self) -> float | None:
        lane = self.lanes.get(self._holder or "")
        if lane is None:
            return None
        due = []
        if lane.pending is not None:
            due.append(lane.partial_at + self._rules.partial_interval_s)
        others = self._waiting()
        if others:
            due.append(lane.active_at + self._rules.pause_s)
            due.append(others[0][0] + self._rules.hold_s)
        return min(due, default=None)

    def _waiting(self) -> list[tuple[float, str]]:
        """Who has something to say and not the floor, longest wait first."""
        return sorted(
            (lane.waiting_since, speaker)
            for speaker, lane in self.lanes.items()
            if speaker != self._holder
            and lane.waiting
            and lane.waiting_since is not None
        )

    def _next(self) -> str | None:
        waiting = self._waiting()
        return waiting[0][1] if waiting else None

    def _speak(self, speaker: str, now: float) -> list[CaptionMessage]:
        lane = self.lanes[speaker]
        messages = [self._message(speaker, chunk, final=True) for chunk in lane.finals]
        if lane.finals:
            lane.finals = []
            lane.shown = None
        due = now >= lane.partial_at + self._rules.partial_interval_s
        if lane.pending is not None and due:
            messages.append(self._message(speaker, lane.pending, final=False))
            lane.shown, lane.pending = lane.pending, None
            lane.partial_at = now
        lane.waiting_since = None
        return messages

    def _must_yield(self, holder: str, now: float) -> bool:
        """Whether the floor's holder has finished, paused, or held it too long."""
        lane = self.lanes[holder]
        waited_since = self._waiting()[0][0]
        over = now >= waited_since + self._rules.hold_s
        paused = now >= lane.active_at + self._rules.pause_s
        return over or paused or not lane.open

    def _commit(self, speaker: str) -> list[CaptionMessage]:
        chunk = self.lanes[speaker].commit()
        return [] if chunk is None else [self._message(speaker, chunk, final=True)]

    def _message(self, speaker: str, chunk: Chunk, *, final: bool) -> CaptionMessage:
        return CaptionMessage(
            reader_session_id=self._reader,
            speaker_session_id=speaker,
            text=chunk.text,
            lang_id=chunk.lang_id,
            final=final,
        )


def _clean(text: str) -> str:
    return " ".join(text.split())
