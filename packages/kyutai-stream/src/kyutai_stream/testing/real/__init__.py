# SPDX-License-Identifier: MIT
"""The real moshi-server for tests: built with cargo, run on the CPU.

Its weights are generated, not trained, yet with `model="listen"` they hear the words
of `kyutai_stream.testing.tones`: what the server says proves which audio reached it.

```python
async with RealMoshiServer(batch_size=2, model="listen") as server:
    ...  # server.url, server.api_key
```

`python -m kyutai_stream.testing.real prepare` builds it ahead of time (some 10
minutes on two cores) into the user's cache. `kyutai_stream.testing.real.link` cuts
single connections, `kyutai_stream.testing.real.raw` speaks the bare protocol.
"""

from __future__ import annotations

from ._build import VERSION, ServerBinary
from ._errors import MoshiServerUnavailable, ServerStartFailed
from ._prepare import prepare, unavailable_reason
from ._script import Expected, ExpectedEnd, ExpectedWord, Speaker
from ._server import RealMoshiServer
from ._weights import DELAY, SCRIPT_WORDS

__all__ = [
    "DELAY",
    "SCRIPT_WORDS",
    "VERSION",
    "Expected",
    "ExpectedEnd",
    "ExpectedWord",
    "MoshiServerUnavailable",
    "RealMoshiServer",
    "ServerBinary",
    "ServerStartFailed",
    "Speaker",
    "prepare",
    "unavailable_reason",
]
