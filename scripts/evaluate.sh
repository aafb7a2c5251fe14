#!/usr/bin/env bash
# Evaluates a model on the five math benchmarks; further arguments go to `python -m eval run`.
#
#   bash scripts/evaluate.sh --model <folder or Hub id> --data <suite>
#   bash scripts/evaluate.sh --model <folder> --data <suite> --engines 8 --address auto     a Ray cluster
#   bash scripts/evaluate.sh --model <name> --data <suite> --base-url http://host:8000/v1   a running server
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -x .venv/bin/python ]; then
    echo "evaluate: no environment here; run: bash scripts/setup.sh" >&2
    exit 2
fi
exec .venv/bin/python -m eval run "$@"
