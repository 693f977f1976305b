# SPDX-License-Identifier: AGPL-3.0-or-later
"""A caption policy on a clock of its own, and what its readers got."""

from __future__ import annotations

from collections import defaultdict

from live_transcription.captions import CaptionMessage, CaptionPolicy, CaptionRules
from live_transcription.notices import Notice

Sent = tuple[float, str, str, bool]


class Box:
    """Runs a policy on a clock of its own and keeps what readers got."""

    def __init__(self, *readers: str, partials: bool = True) -> None:
        self.policy = CaptionPolicy(CaptionRules(partials=partials))
        self.now = 100.0
        self.got: dict[str, list[Sent]] = defaultdict(list)
        self.messages: list[CaptionMessage] = []
        self.policy.set_readers(readers or ("reader",), self.now)

    def collect(self) -> None:
        for message in self.policy.messages_to_send():
            self.messages.append(message)
            self.got[message.reader_session_id].append(
                (self.now, message.speaker_session_id, message.text, message.final)
            )

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.policy.deadline()) is not None and due <= end:
            assert due >= self.now, "a deadline in the past was not served"
            self.now = due
            self.policy.tick(self.now)
            self.collect()
        self.now = end

    def partial(self, speaker: str, text: str, lang_id: str = "en") -> None:
        self.policy.partial(speaker, text, lang_id, self.now)
        self.collect()

    def final(self, speaker: str, text: str, lang_id: str = "en") -> None:
        self.policy.final(speaker, text, lang_id, self.now)
        self.collect()

    def notice(self, speaker: str, notice: Notice, lang_id: str = "en") -> None:
        self.policy.notice(speaker, notice, lang_id, self.now)
        self.collect()

    def say(self, speaker: str, sentence: str, step_s: float = 0.1) -> None:
        """Partials word by word, then the final."""
        words = sentence.split()
        for count in range(1, len(words) + 1):
            self.partial(speaker, " ".join(words[:count]))
            self.wait(step_s)
        self.final(speaker, sentence)

    def texts(self, reader: str = "reader") -> list[tuple[str, str, bool]]:
        return [(speaker, text, final) for _, speaker, text, final in self.got[reader]]
