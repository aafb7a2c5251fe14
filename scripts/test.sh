#!/usr/bin/env bash
# Installs what is needed, then checks style and types and runs all tests. Arguments go to pytest, for example:
#
#   bash scripts/test.sh tests/unit          the fast ones
#   bash scripts/test.sh -k resume
set -euo pipefail
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
