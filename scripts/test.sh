#!/usr/bin/env bash
# Installs what is needed, then checks style and types and runs all tests: 25 to 45 minutes on two cores, because many
# train for real. As root it also installs Chromium and its driver with apt-get, which the pages are tested in.
# Arguments go to pytest, for example:
#
#   bash scripts/test.sh tests/unit          the fast ones, a few minutes
#   bash scripts/test.sh -k resume
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."

bash scripts/setup.sh
if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    # The report's and the evaluation's pages are tested in a browser.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "[test] installing Chromium and its driver"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null ||
            echo "[test] Chromium could not be installed: the browser tests will be skipped"
    else
        echo "[test] no Chromium and no right to install it: the browser tests will be skipped"
        echo "[test] (on Debian: apt-get install chromium chromium-driver)"
    fi
fi
export PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false

ruff check .
ruff format --check .
pyright
exec python -m pytest "$@"
