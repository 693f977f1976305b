# SPDX-License-Identifier: MIT
"""Talk's High-Performance Backend in this process, for tests of bots.

`EmbeddedHpb` speaks the signaling protocol as HPB 2.0.2 does and forwards
encoded audio and video between clients as its media server does. It needs no
system packages: the extra `[testing]`, and `[media]` for calls with media.

Left out: federation, virtual sessions (`addsession` and its relatives are
ignored), dialout (answered with `no_client_available`), several Nextcloud servers,
clusters, simulcast, retransmission of video, data channels between participants,
`serverinfo`, `stats` and the `change` event. Hello 2.0 needs the package
`cryptography`, which `[media]` brings; without it tokens are `invalid_token`.

Different from the real server: the socket closes with 1000 after a `bye` (the
real one sends no code), queues are bounded, and events that the real server sends
in varying order always come in the same one.
"""

from .loopback import loopback_when_alone
from .options import HpbOptions
from .server import EmbeddedHpb, SessionView

__all__ = ["EmbeddedHpb", "HpbOptions", "SessionView", "loopback_when_alone"]
