# SPDX-License-Identifier: AGPL-3.0-or-later
"""The languages that can be captioned, in the shapes Talk's browser code reads.

Source:
    Talk's caption handler indexes `/api/v1/languages` by language id and throws
    on an entry without `metadata`.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

__all__ = ["FALLBACK_LANGUAGE", "LANGUAGES", "Language", "language_map", "supported"]


@frozen(kw_only=True)
class Language:
    """One language of captions."""

    lang_id: str
    """ISO 639-1 code, as Talk sends it in `langId`."""
    name: str
    """Its own name, for the language picker."""
    separator: str = " "
    """What Talk puts between two chunks of text."""
    rtl: bool = False
    """Whether it is written from right to left."""


LANGUAGES = (
    Language(lang_id="en", name="English"),
    Language(lang_id="fr", name="Français"),
)
"""What Kyutai's `stt-1b-en_fr` understands."""

FALLBACK_LANGUAGE = "en"
"""Used where nothing valid was chosen."""


def supported(lang_id: str | None) -> bool:
    """Tell whether captions can be made in this language."""
    return any(language.lang_id == lang_id for language in LANGUAGES)


def language_map() -> dict[str, dict[str, Any]]:
    """Return the languages keyed by id, as `/api/v1/languages` answers."""
    return {
        language.lang_id: {
            "name": language.name,
            "metadata": {"separator": language.separator, "rtl": language.rtl},
        }
        for language in LANGUAGES
    }
