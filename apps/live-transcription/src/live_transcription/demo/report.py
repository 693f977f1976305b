# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the demo reports: one record per caption, one summary at the end.

The records are the lines of `--json`. Their keys and the order of the keys are
public; they only ever grow at the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from attrs import Attribute, asdict, define, field, frozen

from ..notices import is_notice
from .scoring import word_error_rate

__all__ = ["CaptionRecord", "Collector", "SummaryRecord", "TalkerScore"]


@frozen(kw_only=True)
class CaptionRecord:
    """One caption as a reader received it."""

    speaker: str
    """Display name under which it came."""
    text: str = field(repr=False)
    """The caption: cumulative since the last final of this speaker."""
    final: bool
    """Whether the text stays; False if the next caption replaces it."""
    lang: str
    """Language id of Talk, e.g. "en"."""
    t: float | None
    """Seconds since the talker's first voiced sample was published; None if none was
    published under this name before."""

    def to_json(self) -> str:
        """Return the record as one line of JSON without the line's end."""
        return _line("caption", asdict(self))


@frozen(kw_only=True)
class TalkerScore:
    """What became of one talker's speech."""

    speaker: str
    """Display name."""
    wer: float | None
    """Word error rate of the finals joined; None without reference text."""
    finals: int
    """Number of final captions."""
    exact: bool | None = None
    """Whether the finals are, word for word, what was said; None (no key in JSON)
    where that was not asked."""


@frozen(kw_only=True)
class SummaryRecord:
    """The demo's result."""

    signaling: str
    """Kind of the signaling server: "real" or "embedded"."""
    hpb_version: str
    """Version that the signaling server reported."""
    backend: str
    """Name of the speech-to-text backend."""
    captions: int
    """Captions received, finals included."""
    finals: int
    """Final captions received."""
    wer: float | None
    """Word error rate of all talkers pooled; None without reference text."""
    first_caption_s: float | None
    """Smallest `t` of all captions; None if there is none."""
    transcribe_http_ms: float | None
    """Milliseconds that the request to switch captions on took."""
    talkers: tuple[TalkerScore, ...]
    """Every talker, in the order of speaking; then unknown names, if captions came
    under any."""
    exact: bool | None = None
    """Whether that holds for all talkers; None as for one."""

    def to_json(self) -> str:
        """Return the record as one line of JSON without the line's end."""
        return _line("summary", asdict(self, filter=_was_asked))


def _was_asked(attribute: Attribute[object], value: object) -> bool:
    return attribute.name != "exact" or value is not None


def _line(kind: str, values: Mapping[str, object]) -> str:
    return json.dumps({"type": kind, **values}, ensure_ascii=False)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


@define
class _Talker:
    reference: str | None = None
    voice_at: float | None = None
    finals: list[str] = field(factory=list)
    captions: int = 0

    @property
    def transcript(self) -> str:
        return " ".join(self.finals)


class Collector:
    """Turns captions and times into records. Pure: `now` comes from outside.

    Args:
        references: What each talker says, by display name; None where it is not
            known. To leave the score out (a backend that recognises nothing), give
            None for everybody.
        exact: Whether finals are to be compared word for word, too.
    """

    def __init__(
        self, references: Mapping[str, str | None], *, exact: bool = False
    ) -> None:
        self._exact = exact
        self._expected = tuple(references)
        self._talkers = {
            name: _Talker(reference=text) for name, text in references.items()
        }
        self._first_t: float | None = None

    def set_reference(self, speaker: str, text: str | None) -> None:
        """Correct what a talker says, e.g. because she was cut short."""
        self._talkers[speaker].reference = text

    def voice_published(self, speaker: str, *, now: float) -> None:
        """Note that a talker's first voiced sample went out; only the first counts.

        Args:
            speaker: Display name of a talker given at the beginning.
            now: Monotonic seconds.
        """
        talker = self._talkers[speaker]
        if talker.voice_at is None:
            talker.voice_at = now

    def caption(
        self, *, speaker: str, text: str, final: bool, lang: str, now: float
    ) -> CaptionRecord:
        """Take one caption in and return its record.

        Args:
            speaker: Display name under which it came; one that is not a talker's is
                counted and shows up in the summary under that name.
            text: The caption.
            final: Whether it stays.
            lang: Language id of Talk.
            now: Monotonic seconds.
        """
        talker = self._talkers.setdefault(speaker, _Talker())
        talker.captions += 1
        t = None if talker.voice_at is None else now - talker.voice_at
        if not is_notice(text):
            if final:
                talker.finals.append(text)
            if t is not None and (self._first_t is None or t < self._first_t):
                self._first_t = t
        return CaptionRecord(
            speaker=speaker, text=text, final=final, lang=lang, t=_rounded(t, 3)
        )

    def transcript(self, speaker: str) -> str:
        """Return the finals of a talker, joined by spaces."""
        return self._talkers[speaker].transcript

    def without_final(self) -> tuple[str, ...]:
        """Return the talkers who got no final caption yet; the demo has failed then."""
        return tuple(name for name in self._expected if not self._talkers[name].finals)

    def complete(self) -> bool:
        """Whether as many words came as all talkers are known to say."""
        return all(
            len(talker.transcript.split()) >= len((talker.reference or "").split())
            for talker in self._talkers.values()
        )

    def inexact(self) -> dict[str, tuple[str, str]]:
        """Return what was said and what came of it, of those it is not the same."""
        return {
            name: (talker.reference or "", talker.transcript)
            for name, talker in self._talkers.items()
            if self._is_exact(talker) is False
        }

    def _is_exact(self, talker: _Talker) -> bool | None:
        if not self._exact or talker.reference is None:
            return None
        return talker.transcript.split() == talker.reference.split()

    def unexpected(self) -> tuple[str, ...]:
        """Return names under which captions came though no such talker exists."""
        return tuple(name for name in self._talkers if name not in self._expected)

    def summary(
        self,
        *,
        signaling: str,
        hpb_version: str,
        backend: str,
        transcribe_http_ms: float | None,
    ) -> SummaryRecord:
        """Sum up everything so far; may be called more than once."""
        talkers = self._talkers.values()
        pooled = word_error_rate((who.reference, who.transcript) for who in talkers)
        exact = {self._is_exact(who) for who in talkers} - {None}
        return SummaryRecord(
            signaling=signaling,
            hpb_version=hpb_version,
            backend=backend,
            captions=sum(talker.captions for talker in talkers),
            finals=sum(len(talker.finals) for talker in talkers),
            wer=_rounded(pooled, 4),
            first_caption_s=_rounded(self._first_t, 3),
            transcribe_http_ms=_rounded(transcribe_http_ms, 1),
            talkers=tuple(
                TalkerScore(
                    speaker=name,
                    wer=_rounded(
                        word_error_rate([(talker.reference, talker.transcript)]), 4
                    ),
                    finals=len(talker.finals),
                    exact=self._is_exact(talker),
                )
                for name, talker in self._talkers.items()
            ),
            exact=all(exact) if exact else None,
        )
