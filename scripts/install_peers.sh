#!/bin/sh
# Installs the peers that tests and benchmarks talk to: SIPp, baresip, rtpengine, PostgreSQL, Chromium (Debian packages,
# with apt-get as root).
# No service is started, nothing outside the package system is changed; a second run does nothing.
set -eu

missing=""
command -v sipp >/dev/null 2>&1 || missing="$missing sip-tester"
command -v baresip >/dev/null 2>&1 || missing="$missing baresip-core"
command -v rtpengine >/dev/null 2>&1 || missing="$missing rtpengine-daemon"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "missing:$missing (Debian package names); install them, or run this as root" >&2
    exit 1
fi

# Debian's way to say that services must not be started at installation (man invoke-rc.d).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
