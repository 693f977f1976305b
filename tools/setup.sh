#!/bin/sh
# Prepares this checkout. Each word is one step: python, servers, browser, moshi, lock.
# Debian packages are installed only when run as root on Debian, and each is named first.
set -eu
cd "$(dirname "$0")/.."

# uv brings its own root certificates; where the system has some, they count
# (companies and test machines add theirs).
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || export UV_SYSTEM_CERTS=true

say() { printf '[setup] %s\n' "$*" >&2; }

# An apt that installs must not start services (policy-rc.d, as Debian's own builders do).
apt_install() {
    missing=""
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "not root on Debian, so these stay missing:$missing"
        return 1
    fi
    say "installing Debian packages:$missing"
    policy=/usr/sbin/policy-rc.d
    own_policy=""
    if [ ! -e "$policy" ]; then
        own_policy=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    status=0
    {
        apt-get update -qq &&
            # shellcheck disable=SC2086
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
    } >/dev/null || status=$?
    [ -z "$own_policy" ] || rm -f "$policy"
    return "$status"
}

make_venv() {
    if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
            say "python3 is older than 3.11"
            exit 1
        }
        rm -rf .venv
        python3 -m venv .venv >/dev/null 2>&1 || {
            rm -rf .venv
            apt_install python3-venv || { say "python3 cannot create virtual environments: install python3-venv"; exit 1; }
            python3 -m venv .venv
        }
    fi
    # The one version of uv that the requirements name, checked by its hashes.
    [ -x .venv/bin/uv ] || {
        say "bootstrapping uv into .venv"
        awk '/^uv==/ {on=1} on {print} on && !/\\$/ {exit}' requirements/dev.txt >.venv/uv.txt
        .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r .venv/uv.txt
    }
}

step_python() {
    make_venv
    say "installing Python packages into .venv"
    # pip stays, for people without uv at hand.
    VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv pip install -q --require-hashes -r requirements/dev.txt
    VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv pip install -q --no-build-isolation --no-deps \
        -e packages/spreed-signaling -e packages/kyutai-stream -e apps/live-transcription -e modal
    touch .venv/.installed
}

step_servers() {
    # Without them demo and tests still run on the embedded server, and say so.
    apt_install janus iproute2 || say "no real Janus: only the embedded server is available"
    .venv/bin/python -m spreed_signaling.testing.real prepare ||
        say "no real signaling server: only the embedded one is available"
}

step_browser() {
    # libatomic1 is needed by the browser's driver, the fonts by readable screenshots.
    apt_install chromium libatomic1 fonts-dejavu-core || say "no chromium: the browser test will be skipped"
}

step_moshi() {
    # Rust itself is not installed here; what is missing is named.
    apt_install cmake g++ pkg-config git libopus-dev libssl-dev python3-dev || true
    .venv/bin/python -m kyutai_stream.testing.real prepare
}

step_lock() {
    .venv/bin/uv lock --upgrade
    .venv/bin/uv export -q --all-packages --all-extras --no-extra local --all-groups --no-emit-workspace \
        --no-emit-project --no-header --format requirements-txt -o requirements/dev.txt >/dev/null
    .venv/bin/python modal/deploy/lock.py
    say "requirements/dev.txt refreshed; run make setup"
}

for step in "$@"; do "step_$step"; done
