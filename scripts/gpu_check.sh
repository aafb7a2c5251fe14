#!/usr/bin/env bash
# Checks the GPU path on one node in about ten minutes: a tiny model made on the spot, nothing is downloaded.
#
#   bash scripts/gpu_check.sh                                  here
#   sbatch --gpus-per-node=2 scripts/gpu_check.sh              as a Slurm job
#
# Arguments go to `openrlhf-ktae doctor --gpu`, such as --only train. It writes gpu_check.json (gpu_check-JOBID.json in a job).
#
#SBATCH --job-name=gpu-check
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=00:40:00
#SBATCH --output=gpu-check-%j.out
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"

[ -x .venv/bin/openrlhf-ktae ] || { echo "gpu_check: no environment here; run: bash scripts/setup.sh --gpu" >&2; exit 2; }
export PATH="$PWD/.venv/bin:$PATH"
exec openrlhf-ktae doctor --gpu --output "gpu_check${SLURM_JOB_ID:+-$SLURM_JOB_ID}.json" "$@"
