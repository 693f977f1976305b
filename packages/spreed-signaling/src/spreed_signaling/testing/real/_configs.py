# SPDX-License-Identifier: MIT
"""Configuration files of the two servers: pure text.

Source:
    Values that gave audio with nextcloud-spreed-signaling 1.2.4 and 2.0.2 and
    Janus 1.1.2. Janus reads a one-line `general: {...}` of its WebSocket transport
    as empty and exits, so these files are written with one setting per line.
"""

from __future__ import annotations

from pathlib import Path
from string import Template

__all__ = ["hpb_config", "janus_configs"]

_UNUSED_PLUGINS = (
    "audiobridge duktape echotest lua nosip recordplay sip streaming textroom"
    " videocall voicemail"
)
_UNUSED_TRANSPORTS = "http mqtt nanomsg pfunix rabbitmq"

_JANUS = Template("""\
general: {
    configs_folder = "$folder"
    plugins_folder = "$libraries/plugins"
    transports_folder = "$libraries/transports"
    events_folder = "$libraries/events"
    loggers_folder = "$libraries/loggers"
    debug_level = 4
    debug_timestamps = true
    debug_colors = false
    server_name = "test"
    session_timeout = 60
    reclaim_session_timeout = 0
    admin_secret = "unused"
}
certificates: {
}
media: {
    rtp_port_range = "$first_port-$last_port"
    ipv6 = false
}
nat: {
    nice_debug = false
    full_trickle = true
    ice_lite = false
    ice_tcp = false
    ice_enforce_list = "$media_address"
}
plugins: {
    disable = "$unused_plugins"
}
transports: {
    disable = "$unused_transports"
}
loggers: {
    disable = "libjanus_jsonlog.so"
}
events: {
    broadcast = false
}
""")

_JANUS_WEBSOCKETS = Template("""\
general: {
    json = "compact"
    ws = true
    ws_port = $port
    ws_ip = "$address"
    wss = false
    pingpong_trigger = 30
    pingpong_timeout = 10
}
admin: {
    admin_ws = false
}
""")

_JANUS_VIDEOROOM = "general: {\n}\n"

# Servers up to 1.2 read `url`, newer ones `urls`; both together are accepted.
# `:loopback:` is the spelling of NATS that 0.4, 1.2 and 2.0 all understand.
_HPB = Template("""\
[http]
listen = 127.0.0.1:$port
[app]
debug = $debug
[sessions]
hashkey = $hash_key
blockkey = $block_key
[clients]
internalsecret = $internal_secret
[backend]
backends = test
allowall = false
timeout = 10
connectionsperhost = 8
[test]
url = $backend_url
urls = $backend_url
secret = $backend_secret
[nats]
url = :loopback:
[mcu]
type = janus
url = $janus_url
[stats]
allowed_ips = 127.0.0.1
""")


def _libraries(names: str) -> str:
    return ",".join(f"libjanus_{name}.so" for name in names.split())


def janus_configs(
    *,
    folder: Path,
    libraries: Path,
    ws_address: str,
    ws_port: int,
    media_address: str,
    rtp_ports: tuple[int, int],
) -> dict[str, str]:
    """Return the files of Janus's configuration folder, by file name.

    Args:
        folder: The configuration folder itself.
        libraries: Folder that holds `plugins` and `transports`.
        ws_address: IPv4 address of the WebSocket API.
        ws_port: Its port.
        media_address: The only IPv4 address offered for media; not a loopback one,
            which Janus never offers.
        rtp_ports: First and last UDP port for media.
    """
    first_port, last_port = rtp_ports
    main = _JANUS.substitute(
        folder=folder,
        libraries=libraries,
        media_address=media_address,
        first_port=first_port,
        last_port=last_port,
        unused_plugins=_libraries(_UNUSED_PLUGINS),
        unused_transports=_libraries(_UNUSED_TRANSPORTS),
    )
    websockets = _JANUS_WEBSOCKETS.substitute(address=ws_address, port=ws_port)
    return {
        "janus.jcfg": main,
        "janus.plugin.videoroom.jcfg": _JANUS_VIDEOROOM,
        "janus.transport.websockets.jcfg": websockets,
    }


def hpb_config(
    *,
    port: int,
    backend_url: str,
    backend_secret: str,
    internal_secret: str,
    janus_url: str,
    hash_key: str,
    block_key: str,
    debug: bool = False,
) -> str:
    """Return the signaling server's configuration file.

    Args:
        port: TCP port on 127.0.0.1.
        backend_url: Nextcloud's base URL; hello URLs must start with it.
        backend_secret: Secret shared with Nextcloud.
        internal_secret: Secret of internal clients.
        janus_url: WebSocket URL of Janus.
        hash_key: 32 or 64 characters that sign session ids.
        block_key: 16, 24 or 32 characters that encrypt them.
        debug: Whether the server logs verbosely.
    """
    return _HPB.substitute(
        port=port,
        backend_url=backend_url.rstrip("/") + "/",
        backend_secret=backend_secret,
        internal_secret=internal_secret,
        janus_url=janus_url,
        hash_key=hash_key,
        block_key=block_key,
        debug=str(debug).lower(),
    )
