# SPDX-License-Identifier: AGPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from live_transcription.demo.report import Collector, SummaryRecord


@pytest.fixture
def collector() -> Collector:
    return Collector({"Alice": "Hello there.", "Ben": "Good morning."})


def summary_of(collector: Collector) -> SummaryRecord:
    return collector.summary(
        signaling="embedded",
        hpb_version="1.0",
        backend="pocketsphinx",
        transcribe_http_ms=12.345,
    )


class TestCaptionRecord:
    def test_line_has_the_published_keys_in_order(self, collector: Collector) -> None:
        collector.voice_published("Alice", now=10.0)
        record = collector.caption(
            speaker="Alice", text="café", final=False, lang="en", now=11.23456
        )
        assert record.to_json() == (
            '{"type": "caption", "speaker": "Alice", "text": "café", "final": false, '
            '"lang": "en", "t": 1.235}'
        )

    def test_speech_is_not_in_the_repr(self, collector: Collector) -> None:
        record = collector.caption(
            speaker="Alice", text="secret plan", final=True, lang="en", now=0
        )
        assert "secret" not in repr(record)

    def test_time_counts_from_the_first_voiced_sample(
        self, collector: Collector
    ) -> None:
        collector.voice_published("Alice", now=10.0)
        collector.voice_published("Alice", now=20.0)
        collector.voice_published("Ben", now=30.0)
        alice = collector.caption(
            speaker="Alice", text="a", final=False, lang="en", now=31.0
        )
        ben = collector.caption(
            speaker="Ben", text="b", final=False, lang="en", now=31.5
        )
        assert (alice.t, ben.t) == (21.0, 1.5)

    def test_no_time_before_any_voice(self, collector: Collector) -> None:
        record = collector.caption(
            speaker="Alice", text="a", final=False, lang="en", now=1.0
        )
        assert json.loads(record.to_json())["t"] is None


class TestSummary:
    def test_line_has_the_published_keys_in_order(self, collector: Collector) -> None:
        line = json.loads(summary_of(collector).to_json())
        assert list(line) == [
            "type",
            "signaling",
            "hpb_version",
            "backend",
            "captions",
            "finals",
            "wer",
            "first_caption_s",
            "transcribe_http_ms",
            "talkers",
        ]
        assert list(line["talkers"][0]) == ["speaker", "wer", "finals"]
        assert line["type"] == "summary"
        assert line["transcribe_http_ms"] == 12.3

    def test_nothing_happened(self, collector: Collector) -> None:
        summary = summary_of(collector)
        assert (summary.captions, summary.finals, summary.wer) == (0, 0, 1.0)
        assert summary.first_caption_s is None
        assert collector.without_final() == ("Alice", "Ben")

    def test_counts_scores_and_smallest_time(self, collector: Collector) -> None:
        collector.voice_published("Alice", now=0.0)
        collector.voice_published("Ben", now=5.0)
        for speaker, text, final, now in [
            ("Alice", "hello", False, 2.0),
            ("Ben", "good evening", True, 6.0),
            ("Alice", "hello", True, 7.0),
            ("Alice", "there", True, 8.0),
        ]:
            collector.caption(
                speaker=speaker, text=text, final=final, lang="en", now=now
            )
        summary = summary_of(collector)
        assert (summary.captions, summary.finals) == (4, 3)
        assert summary.first_caption_s == 1.0
        assert summary.wer == 0.25
        scores = [(who.speaker, who.wer, who.finals) for who in summary.talkers]
        assert scores == [("Alice", 0.0, 2), ("Ben", 0.5, 1)]
        assert collector.transcript("Alice") == "hello there"
        assert collector.without_final() == ()

    def test_partials_are_not_enough(self, collector: Collector) -> None:
        collector.caption(speaker="Ben", text="good", final=False, lang="en", now=1)
        assert "Ben" in collector.without_final()

    def test_captions_under_a_wrong_name_show(self, collector: Collector) -> None:
        collector.caption(speaker="Eve", text="hello", final=True, lang="en", now=1)
        summary = summary_of(collector)
        assert collector.unexpected() == ("Eve",)
        assert [who.speaker for who in summary.talkers] == ["Alice", "Ben", "Eve"]
        assert collector.without_final() == ("Alice", "Ben")

    def test_no_reference_no_score(self) -> None:
        collector = Collector({"Alice": None})
        collector.caption(speaker="Alice", text="hi", final=True, lang="en", now=1)
        summary = summary_of(collector)
        assert summary.wer is None
        assert summary.talkers[0].wer is None

    def test_reference_can_be_corrected(self, collector: Collector) -> None:
        collector.caption(speaker="Alice", text="hello", final=True, lang="en", now=1)
        collector.set_reference("Alice", "Hello.")
        assert summary_of(collector).talkers[0].wer == 0


class TestExact:
    @staticmethod
    def summary(*finals: str) -> SummaryRecord:
        collector = Collector({"Alice": "alpha bravo charlie", "Ben": None}, exact=True)
        for text in finals:
            collector.caption(speaker="Alice", text=text, final=True, lang="en", now=0)
        record = summary_of(collector)
        said_and_heard = collector.inexact().get("Alice")
        assert (said_and_heard is not None) is (record.exact is False)
        return record

    def test_every_word_once_and_in_order(self) -> None:
        assert self.summary("alpha bravo", "charlie").exact is True

    @pytest.mark.parametrize(
        "heard", ["alpha bravo", "alpha bravo bravo charlie", "bravo alpha charlie"]
    )
    def test_anything_else_is_not(self, heard: str) -> None:
        assert self.summary(heard).exact is False

    def test_a_notice_is_no_word(self) -> None:
        record = self.summary("…", "alpha bravo", "[…]", "charlie")
        assert record.exact is True
        assert (record.captions, record.finals, record.wer) == (4, 2, 0)

    def test_whose_text_is_not_known_does_not_count(self) -> None:
        record = self.summary("alpha bravo charlie")
        assert [talker.exact for talker in record.talkers] == [True, None]

    def test_the_key_is_there_only_where_it_was_asked(self) -> None:
        asked = json.loads(self.summary("alpha bravo charlie").to_json())
        assert asked["exact"] is True
        assert [talker.get("exact") for talker in asked["talkers"]] == [True, None]
        assert "exact" not in asked["talkers"][1]
        plain = summary_of(Collector({"Alice": "Hello"})).to_json()
        assert "exact" not in plain

    def test_complete_is_when_so_many_words_came(self) -> None:
        collector = Collector({"Alice": "alpha bravo", "Ben": None}, exact=True)
        assert not collector.complete()
        collector.caption(speaker="Alice", text="alpha", final=True, lang="en", now=0)
        assert not collector.complete()
        collector.caption(speaker="Alice", text="bravo", final=True, lang="en", now=0)
        assert collector.complete()
