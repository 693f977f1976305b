#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
# Entry point of the container. On HaRP daemons a tunnel (frpc) makes the app's
# unix socket reachable; everywhere else the app listens on TCP.
set -eu
if [ -n "${HP_SHARED_KEY:-}" ]; then
    socket="${HP_EXAPP_SOCK:-/tmp/exapp.sock}"
    config=/tmp/frpc.toml
    # The file holds the shared key.
    umask 077
    {
        echo "serverAddr = \"$HP_FRP_ADDRESS\""
        echo "serverPort = $HP_FRP_PORT"
        echo "loginFailExit = false"
        echo "metadatas.token = \"$HP_SHARED_KEY\""
        if [ -d /certs/frp ]; then
            echo "transport.tls.enable = true"
            echo "transport.tls.certFile = \"/certs/frp/client.crt\""
            echo "transport.tls.keyFile = \"/certs/frp/client.key\""
            echo "transport.tls.trustedCaFile = \"/certs/frp/ca.crt\""
            echo "transport.tls.serverName = \"harp.nc\""
        else
            echo "transport.tls.enable = false"
        fi
        echo "[[proxies]]"
        echo "name = \"$APP_ID\""
        echo "type = \"tcp\""
        echo "remotePort = $APP_PORT"
        echo "[proxies.plugin]"
        echo "type = \"unix_domain_socket\""
        echo "unixPath = \"$socket\""
    } > "$config"
    rm -f "$socket"
    frpc -c "$config" &
fi
# exec: the app must receive SIGTERM, to bring out the last words and say goodbye.
exec live-transcription
