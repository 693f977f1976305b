# SPDX-License-Identifier: MIT
"""Recorded websocket conversations: write them at a real server, play them back.

`record` is a proxy between any client and a real server; it writes a cassette, a
JSON Lines file without credentials and, unless asked for, without audio. `play` is
a server that plays the other side to a client. From a shell:

```sh
python -m kyutai_stream.testing.cassettes record --upstream URL --listen PORT out.jsonl
```

Needs `pip install 'kyutai-stream[testing]'`.
"""

from __future__ import annotations

from ._format import VERSION, Cassette, CassetteError, Direction, Entry, Header
from ._play import CassetteMismatch, Player, play
from ._record import Recorder, record

__all__ = [
    "VERSION",
    "Cassette",
    "CassetteError",
    "CassetteMismatch",
    "Direction",
    "Entry",
    "Header",
    "Player",
    "Recorder",
    "play",
    "record",
]
