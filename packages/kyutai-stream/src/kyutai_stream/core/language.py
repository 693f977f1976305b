# SPDX-License-Identifier: MIT
"""Notice that a recogniser writes another language than the one spoken.

The Kyutai models choose the language themselves and now and then choose wrongly;
nothing can force them. Function words tell languages apart well and are every third
word of speech, so a short window of them decides. Words common to two languages
(`a`, `on`, `me`) count for neither.
"""

from __future__ import annotations

import re
from collections import deque

__all__ = ["LanguageGuard"]

_WORDS = {
    "en": "the and is of to it that you this was are with for have be not we they he"
    " she what will there can your would been has were do did but my from about",
    "fr": "le les des et est une que qui dans pour pas vous nous je il elle sur avec"
    " au ce cette mais ou sont ont fait ça c'est qu'il du aux être même leur mon",
    "es": "el los las y que del una por con para está pero muy como más este esta lo"
    " hay yo usted nosotros ser tiene cuando también porque qué sí",
    "de": "der die das und ist nicht ein eine ich sie wir mit auf für dem den zu auch"
    " aber haben wird sind oder wenn dass es noch kann wie",
    "it": "il gli di che è un una per non sono con della nel questo questa ma anche"
    " come più ho hai abbiamo perché quando lui lei",
    "pt": "o os as do da em um uma não que para com mais por você ele ela isso mas"
    " como também foi está são eu nós quando porque",
}
WINDOW = 24
"""Function words looked at: about a minute of speech, less of fast speech."""
FEWEST = 8
"""No verdict on fewer."""
MOST_EXPECTED = 0.2
"""At most this share may be of the expected language, to call it another one."""
LEAST_OTHER = 0.6
"""At least this share must be of one other language."""

_SPLIT = re.compile(r"[^\w'’]+")


def _owners() -> dict[str, str]:
    """Words of exactly one language."""
    found: dict[str, set[str]] = {}
    for language, words in _WORDS.items():
        for word in words.split():
            found.setdefault(word, set()).add(language)
    return {word: next(iter(who)) for word, who in found.items() if len(who) == 1}


_OWNER = _owners()


class LanguageGuard:
    """Watches the words of one session.

    Args:
        expected: The session's language, such as `en`; None or a language without
            word list is never contradicted.
    """

    def __init__(self, expected: str | None) -> None:
        self._expected = expected if expected in _WORDS else None
        self._seen: deque[str] = deque(maxlen=WINDOW)
        self._told = False

    def word(self, text: str) -> str | None:
        """Take the next words.

        Args:
            text: One word or several.

        Returns:
            The other language, once, when the words have clearly been in it for a
            while; said again only after they were in the expected one.
        """
        if self._expected is None:
            return None
        owners = [_OWNER.get(part) for part in _SPLIT.split(text.casefold())]
        found = [owner for owner in owners if owner is not None]
        self._seen.extend(found)
        return self._verdict(self._expected) if found else None

    def forget(self) -> None:
        """Begin anew, as after a reset of the recogniser."""
        self._seen.clear()
        self._told = False

    def _verdict(self, expected: str) -> str | None:
        if len(self._seen) < FEWEST:
            return None
        share = {one: self._seen.count(one) / len(self._seen) for one in _WORDS}
        own = share.pop(expected)
        other = max(share, key=lambda one: share[one])
        wrong = own <= MOST_EXPECTED and share[other] >= LEAST_OTHER
        if not wrong:
            # Told again only after a clear return.
            self._told = self._told and own < 0.5
            return None
        told, self._told = self._told, True
        return None if told else other
