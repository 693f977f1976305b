#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
# Healthy = the app itself answers, on whichever address it listens.
set -eu
if [ -n "${HP_SHARED_KEY:-}" ]; then
    exec curl -fsS -m 4 -o /dev/null \
        --unix-socket "${HP_EXAPP_SOCK:-/tmp/exapp.sock}" http://localhost/heartbeat
fi
host="${APP_HOST:-127.0.0.1}"
# 0.0.0.0 is where to listen, not where to connect.
[ "$host" = "0.0.0.0" ] && host=127.0.0.1
exec curl -fsS -m 4 -o /dev/null "http://$host:${APP_PORT:-23000}/heartbeat"
