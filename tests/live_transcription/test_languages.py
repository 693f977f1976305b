# SPDX-License-Identifier: AGPL-3.0-or-later
"""The languages, as Talk's caption handler indexes them."""

from __future__ import annotations

import json

from live_transcription.languages import language_map, supported


def test_l1_shape() -> None:
    languages = json.loads(json.dumps(language_map()))
    assert {"en", "fr"} <= languages.keys()
    assert "languages" not in languages
    for language in languages.values():
        assert isinstance(language["name"], str)
        assert isinstance(language["metadata"]["separator"], str)
        assert isinstance(language["metadata"]["rtl"], bool)


def test_supported() -> None:
    assert supported("en") and supported("fr")
    assert not supported("de") and not supported("") and not supported(None)
