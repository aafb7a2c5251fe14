#!/usr/bin/env bash
# Trains a tiny model with GRPO+KTAE on this machine's CPU, with the real Ray, vLLM and DeepSpeed. Minutes on two cores.
#
#   bash scripts/quickstart.sh [--set KEY=VALUE ...]     for example --set train.seed=1
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh
if compgen -G 'runs/quickstart-*/summary.json' >/dev/null; then
    echo "Earlier runs are in: $(echo runs/quickstart-*/)"
    echo "This one goes into a folder of its own."
fi
exec .venv/bin/openrlhf-ktae train recipes/quickstart "$@"
