#!/bin/sh
# Tests of the in-process backend: torch is large, so it gets an environment of its own,
# kept in the user's cache. Not part of `make test`.
set -eu
cd "$(dirname "$0")/.."
venv="${XDG_CACHE_HOME:-$HOME/.cache}/kyutai-stream/test-local"
say() { printf '[test-local] %s\n' "$*" >&2; }

if [ ! -e "$venv/.complete" ]; then
    say "installing torch and moshi into $venv (about 5 GB, some minutes)"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check \
        torch numpy einops huggingface_hub safetensors sentencepiece sphn \
        anyio attrs msgpack websockets hypothesis pytest pytest-timeout
    # Its metadata pins versions that it does not need.
    "$venv/bin/pip" install -q --disable-pip-version-check --no-deps moshi==0.2.13
    touch "$venv/.complete"
fi
"$venv/bin/pip" install -q --disable-pip-version-check --no-deps -e packages/kyutai-stream
exec "$venv/bin/python" -m pytest -m local tests/kyutai_stream/backends/local "$@"
