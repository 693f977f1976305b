from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyutai_stream.core import LanguageGuard

ENGLISH = (
    "Good morning everybody, thank you for coming. I would like to start with the"
    " numbers of the last quarter, and then we can talk about what they mean for the"
    " plan that was agreed in May. As you know, there have been some delays. They are"
    " not as bad as they look, but we will need more people, and that is what I want"
    " to discuss with you. It has been a long year for all of us."
)
NAMES = (
    "The Tour de France began in Le Mans, and Jean-Luc du Pont was there with his"
    " friends from Les Halles and the Place de la Concorde. They had a café au lait"
    " and a tarte à la crème, and then they went to see Les Misérables. Marie de la"
    " Tour said that the Château d'Eau is what you have to see when you are in Aix."
)
FRENCH = (
    "Bonjour à tous et merci d'être venus. Je voudrais commencer par les chiffres du"
    " dernier trimestre, et ensuite nous allons parler de ce qui est prévu pour la"
    " suite. Comme vous le savez, il y a eu des retards, mais c'est moins grave que ce"
    " que l'on pense. Nous avons une équipe qui est très motivée, et elle a fait un"
    " travail remarquable avec des moyens limités dans cette période."
)
SPANISH = (
    "Buenos días a todos y gracias por venir. Quiero empezar con los números del"
    " último trimestre, y después vamos a hablar de lo que está previsto para el año"
    " que viene. Como ustedes saben, hay algunos retrasos, pero no es tan grave como"
    " parece. El equipo está muy motivado y las personas que trabajan en esta oficina"
    " también lo saben, porque lo han visto cuando estaban aquí."
)
GERMAN = (
    "Guten Morgen zusammen und danke, dass ihr gekommen seid. Ich möchte mit den"
    " Zahlen für das letzte Quartal anfangen, und dann reden wir auch noch über den"
    " Plan. Es ist nicht so schlimm, wie es aussieht, aber wir haben zu wenig Leute"
    " für die Arbeit, und das wird sich nicht von selbst ändern, wenn wir es nicht tun."
)
ITALIAN = (
    "Buongiorno, sono contento di vedere che non manca nessuno. Questa è la situazione"
    " della società: abbiamo più clienti che nel passato, ma anche più problemi. Il"
    " progetto non è finito perché gli altri non hanno tempo, e questo lo sapete, ma"
    " quando lui torna ne parliamo con calma, come abbiamo sempre fatto anche con lei."
)
PORTUGUESE = (
    "Bom dia, os números do trimestre não são bons, mas também não são maus. Você já"
    " sabe o que foi combinado em maio, e eu acho que ela está certa quando diz que"
    " não há uma saída fácil. Isso é para nós um problema, porque os clientes do sul"
    " são os mais importantes, e ele não quer falar com eles em público."
)


def told(guard: LanguageGuard, text: str) -> list[str]:
    """What the guard says to a text, word by word."""
    found = [guard.word(word) for word in text.split()]
    return [one for one in found if one is not None]


class TestMismatch:
    @pytest.mark.parametrize(
        ("text", "language"),
        [
            (FRENCH, "fr"),
            (SPANISH, "es"),
            (GERMAN, "de"),
            (ITALIAN, "it"),
            (PORTUGUESE, "pt"),
        ],
    )
    def test_another_language_is_named_once(self, text: str, language: str) -> None:
        assert told(LanguageGuard("en"), text) == [language]

    def test_english_is_noticed_too(self) -> None:
        assert told(LanguageGuard("fr"), ENGLISH) == ["en"]

    def test_in_the_middle_of_a_session(self) -> None:
        guard = LanguageGuard("en")
        assert told(guard, ENGLISH * 3) == []
        assert told(guard, FRENCH) == ["fr"]

    def test_within_twenty_seconds_of_speech(self) -> None:
        # 2.5 words a second.
        guard = LanguageGuard("en")
        assert told(guard, " ".join(FRENCH.split()[:50])) == ["fr"]

    def test_several_words_in_one_message(self) -> None:
        assert LanguageGuard("en").word(FRENCH) == "fr"


class TestNoFalseAlarm:
    @pytest.mark.parametrize("text", [ENGLISH, NAMES, f"{NAMES} {ENGLISH}" * 4])
    def test_english(self, text: str) -> None:
        assert told(LanguageGuard("en"), text) == []

    def test_french(self) -> None:
        assert told(LanguageGuard("fr"), FRENCH * 4) == []

    @pytest.mark.parametrize(
        ("text", "language"),
        [(SPANISH, "es"), (GERMAN, "de"), (ITALIAN, "it"), (PORTUGUESE, "pt")],
    )
    def test_the_others(self, text: str, language: str) -> None:
        assert told(LanguageGuard(language), text) == []

    def test_a_short_quotation(self) -> None:
        guard = LanguageGuard("en")
        told(guard, ENGLISH)
        assert (
            told(guard, "As they say: c'est la vie, et le reste est pour vous.") == []
        )
        assert told(guard, ENGLISH) == []

    def test_a_greeting_at_the_begin_is_too_little(self) -> None:
        assert (
            told(LanguageGuard("en"), "Bonjour à tous et merci, je suis le chef") == []
        )

    def test_two_languages_by_turns(self) -> None:
        guard = LanguageGuard("en")
        sentences = zip(ENGLISH.split(". "), FRENCH.split(". "), strict=False)
        assert told(guard, " ".join(f"{en} {fr}" for en, fr in sentences)) == []

    def test_a_speaker_who_mixes_languages(self) -> None:
        # Two of five are still the session's: the recogniser follows the speaker.
        assert told(LanguageGuard("en"), "vous nous the pour and " * 12) == []

    def test_gibberish_is_no_language(self) -> None:
        assert told(LanguageGuard("en"), "vous und muy nicht dans yo " * 10) == []

    @pytest.mark.parametrize("expected", [None, "sw"])
    def test_a_language_without_words_is_never_contradicted(
        self, expected: str | None
    ) -> None:
        assert told(LanguageGuard(expected), FRENCH + ENGLISH) == []

    def test_words_of_no_language_change_nothing(self) -> None:
        guard = LanguageGuard("en")
        assert guard.word("") is None
        assert guard.word("... 42 Nextcloud") is None


class TestAgain:
    def test_told_again_only_after_a_clear_return(self) -> None:
        guard = LanguageGuard("en")
        assert told(guard, FRENCH * 3) == ["fr"]
        assert told(guard, ENGLISH) == []
        assert told(guard, FRENCH) == ["fr"]

    def test_not_after_a_few_words(self) -> None:
        guard = LanguageGuard("en")
        told(guard, FRENCH)
        assert told(guard, "and this is what we") == []
        assert told(guard, FRENCH) == []

    def test_a_reset_of_the_recogniser_begins_anew(self) -> None:
        guard = LanguageGuard("en")
        told(guard, FRENCH)
        guard.forget()
        assert told(guard, " ".join(FRENCH.split()[:8])) == []
        assert told(guard, FRENCH) == ["fr"]


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([*ENGLISH.split(), *FRENCH.split(), *SPANISH.split()]),
        max_size=150,
    )
)
def test_a_verdict_is_never_the_expected_language(words: list[str]) -> None:
    guard = LanguageGuard("en")
    found = [one for one in map(guard.word, words) if one is not None]
    assert set(found) <= {"fr", "es"}


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(20, 200))
def test_no_part_of_english_with_names_is_called_french(first: int, count: int) -> None:
    words = (f"{NAMES} {ENGLISH} " * 6).split()[first : first + count]
    assert told(LanguageGuard("en"), " ".join(words)) == []
