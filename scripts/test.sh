#!/usr/bin/env bash
# Installs what is needed, then checks style and types and runs all tests. Arguments go to pytest, for example:
#
#   bash scripts/test.sh tests/unit          the fast ones
#   bash scripts/test.sh -k resume
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false

ruff check .
ruff format --check .
pyright
exec python -m pytest "$@"
