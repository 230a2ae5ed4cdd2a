#!/bin/sh
# Makes .venv with the gateway in it: scripts/install.sh [extra ...]   (extras of pyproject.toml, e.g. test bench)
# Installs a missing compiler or venv module with apt-get where it may, else says in one line what is missing.
set -eu
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-}
if [ -z "$PYTHON" ]; then
    for candidate in python3.13 python3.12 python3.11 python3; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            PYTHON=$candidate
            break
        fi
    done
fi

missing=""
[ -n "$PYTHON" ] || missing="$missing python3"
{ [ -n "$PYTHON" ] && "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; } || missing="$missing python3-venv"
{ [ -n "$PYTHON" ] && "$PYTHON" -c 'import os, sysconfig, sys
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' 2>/dev/null; } ||
    missing="$missing python3-dev"
command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
        [ -n "$PYTHON" ] || PYTHON=python3
    else
        echo "missing:$missing (Debian names; Python must be 3.11 or newer)" >&2
        exit 1
    fi
fi

[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
extras=$(echo "$*" | tr ' ' ',')
stamp=".venv/.installed-${extras:-base}"
if [ ! -e "$stamp" ] || [ -n "$(find pyproject.toml media -maxdepth 1 \( -name '*.toml' -o -name '*.p[yx][xd]' -o -name '*.h' \) -newer "$stamp")" ]; then
    rm -f media/relay.c media/records.c # what they include is not looked at when it is decided whether to make them anew
    # its warnings are about the packaging tools' own future
    PYTHONWARNINGS=ignore .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".${extras:+[$extras]}"
    touch "$stamp"
fi
