# SPDX-License-Identifier: MIT
"""Transcribe a whole source of audio: a file, an iterable, standard input, a mic.

`transcribe` takes chunks from an async iterable, `transcribe_file` reads any audio
file piece by piece, `transcribe_sync` is for programs without an event loop. Each
is a `Session` with a task that feeds it; for anything finer use `open_session`.
"""

from __future__ import annotations

from ._feed import FeedSource, OpenSource, open_iterable
from ._microphone import microphone
from ._stream import Transcription, transcribe, transcribe_file
from ._sync import transcribe_sync
from .decoding import Decoder, open_decoder
from .files import file_source, raw_source

__all__ = [
    "Decoder",
    "FeedSource",
    "OpenSource",
    "Transcription",
    "file_source",
    "microphone",
    "open_decoder",
    "open_iterable",
    "raw_source",
    "transcribe",
    "transcribe_file",
    "transcribe_sync",
]
