#!/usr/bin/env bash
# Submits a recipe to a running Ray cluster and follows it. How to start a cluster: docs/clusters.md.
#
#   scripts/submit_ray.sh [options] RECIPE [arguments of `openrlhf-ktae train`]
#   scripts/submit_ray.sh recipes/grpo_ktae_qwen2.5_math_7b --set actor.num_nodes=2 ...
#
#   --address URL     the cluster's dashboard (RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265)
#   --directory DIR   this checkout on the cluster's nodes, on a file system they share (default: where it is here)
#   --python PATH     interpreter of the environment on the nodes (default: DIR/.venv/bin/python)
#   --id NAME         submission id (default: recipe and time); the run's folder is DIR/runs/NAME/latest
#   --no-wait         submit and return
#
# Exit code: 0 if the job succeeded (with --no-wait: was accepted). RAY_AUTH_MODE=token and RAY_AUTH_TOKEN come from the
# environment. Secrets of the job (WANDB_API_KEY, HF_TOKEN) are never sent from here: put them into the environment of
# `ray start` on the head node, or log in there (docs/tracking.md).
set -euo pipefail

fail() { echo "submit_ray: $*" >&2; exit 2; }

directory=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
address=${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}
python='' id='' wait=()
while [ $# -gt 0 ]; do
    case $1 in
        --address | --directory | --python | --id)
            [ $# -ge 2 ] || fail "$1 needs a value"
            printf -v "${1#--}" %s "$2"
            shift 2
            ;;
        --no-wait) wait=(--no-wait); shift ;;
        -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        -*) fail "unknown option $1; see --help" ;;
        *) break ;;
    esac
done
[ $# -ge 1 ] || fail "no recipe; see --help"
recipe=$1
shift
for argument in "$recipe" "$@"; do
    # Ray hands the entry point to a shell.
    case $argument in *[\$\`\"\\]*) fail "$argument: \$, \`, \" and \\ are not supported in arguments" ;; esac
    case $argument in *logger.wandb.key*) fail "logger.wandb.key: a key never stands in arguments; see docs/tracking.md" ;; esac
done
python=${python:-$directory/.venv/bin/python}
id=${id:-$(basename "$recipe")-$(date +%Y%m%d-%H%M%S)}
ray=$(command -v ray || echo "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/ray")
[ -x "$ray" ] || fail "ray not found; run scripts/setup.sh and activate .venv"

# Ray's own command ends in a traceback where nobody answers.
"$(dirname "$ray")/python" - "$address" <<'PY' || fail "no Ray dashboard answers at $address; start a cluster (docs/clusters.md) or name it with --address"
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1].rstrip("/") + "/api/version", timeout=10)
except urllib.error.HTTPError:
    pass  # somebody answers, and wants a token
except (OSError, ValueError):
    sys.exit(1)
PY

here="RAY_API_SERVER_ADDRESS=$address ray job"
cat <<TEXT
Submitting $recipe to $address as $id
  run folder  $directory/runs/$id/latest
  follow      $here logs --follow $id
  checkpoint and stop   touch $directory/runs/$id/latest/stop
  stop now    $here stop $id
  resume      scripts/submit_ray.sh --address $address $recipe $* --resume $directory/runs/$id/latest
TEXT

# Time for the entry point to end what it started, after `ray job stop`.
runtime='{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60", "PYTHONUNBUFFERED": "1"}}'
exec "$ray" job submit --address "$address" --submission-id "$id" --runtime-env-json "$runtime" "${wait[@]}" -- \
    env --chdir="$directory" "$python" -m openrlhf_ktae.cli train "$recipe" --set "run.output_dir=runs/$id" "$@"
