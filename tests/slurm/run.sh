#!/usr/bin/env bash
# Runs scripts/train.sbatch on a real Slurm: a controller and two nodes on this host. Needs root (a container is a good place)
# and Debian or Ubuntu; installs slurm-wlm and munge where they are missing.
#
#   bash tests/slurm/run.sh [wrong | train | container | limit_and_cancel | node_failure]...      (default: all)
#
# KEEP=1 leaves the scratch folder (logs, run folders) there.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { echo "[slurm] $*"; }
fail() {
    say "FAILED: $*"
    tail -n 40 "$scratch"/slurm-*.out "$scratch"/log/*.log 2>/dev/null || true
    exit 1
}

[ "$(id -u)" = 0 ] || { say "error: needs root, to start munge and Slurm's daemons"; exit 2; }
if ! command -v slurmctld munged >/dev/null || ! command -v slurmd >/dev/null; then
    say "installing slurm-wlm and munge"
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
fi

scratch=$(mktemp -d /tmp/slurm.XXXXXX)
host=$(hostname -s)
export SLURM_CONF=$scratch/slurm.conf
daemons=()
declare -A node_pid
# A node is a slurmd in a process namespace of its own, with which everything on it ends at once.
start_node() {
    unshare --pid --fork --mount-proc --kill-child slurmd -D -N "$1" >>"$scratch/log/$1.log" 2>&1 &
    node_pid[$1]=$!
}
lose_power() {
    kill -KILL "${node_pid[$1]}"
    wait "${node_pid[$1]}" 2>/dev/null || true
    unset "node_pid[$1]"
}
stop() {
    local pid node
    scancel --quiet --user=root 2>/dev/null || true
    for node in "${!node_pid[@]}"; do lose_power "$node"; done
    for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${daemons[@]}"; do wait "$pid" 2>/dev/null || true; done
    [ -n "${KEEP:-}" ] && say "kept: $scratch" || rm -rf "$scratch"
}
trap stop EXIT

until_true() { # SECONDS WHAT COMMAND...: polls
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "$what (waited until the limit)"
        sleep 0.5
    done
}

mkdir -p "$scratch"/{log,state,spool1,spool2,munge}
# A munge of our own: its key, socket and files stay in the scratch folder.
chmod 755 "$scratch" && chmod 700 "$scratch/munge"
head -c 1024 /dev/urandom >"$scratch/munge/key" && chmod 400 "$scratch/munge/key"
munged --foreground --force --key-file="$scratch/munge/key" --socket="$scratch/munge.socket" \
    --pid-file="$scratch/munge/pid" --log-file="$scratch/munge/log" --seed-file="$scratch/munge/seed" >"$scratch/log/munge.log" 2>&1 &
daemons+=($!)
until_true 20 "munged did not start" test -S "$scratch/munge.socket"

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }
# A job id that was not there before: a run folder that a failed check left behind must not be gone on with.
cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$scratch/munge.socket,cred_expire=10
CryptoType=crypto/munge
SlurmctldPort=$(port)
SlurmctldPidFile=$scratch/slurmctld.pid
SlurmctldLogFile=$scratch/log/slurmctld.log
SlurmdLogFile=$scratch/log/slurmd-%n.log
SlurmdPidFile=$scratch/slurmd-%n.pid
SlurmdSpoolDir=$scratch/spool-%n
StateSaveLocation=$scratch/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
FirstJobId=$((RANDOM % 19999 + 1))
SchedulerParameters=sched_interval=2,batch_sched_delay=0
MinJobAge=3600
KillWait=60
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$(port)-PORT2] CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
first=$(sed -n 's/.*Port=\[\([0-9]*\)-PORT2\].*/\1/p' "$SLURM_CONF")
sed -i "s/PORT2/$((first + 1))/" "$SLURM_CONF"
slurmctld -D >"$scratch/log/controller.log" 2>&1 &
daemons+=($!)
for node in n1 n2; do start_node $node; done
until_true 60 "the two nodes did not become idle" sh -c '[ "$(sinfo -h -N -o %t | grep -c idle)" = 2 ]'
say "two nodes: $(sinfo -h -o '%N %t' | tr '\n' ' ')"

# What the jobs share: the tiny model and problems, and one logical GPU a node (policy on one, rollouts on the other).
assets=$scratch/assets
tiny=(recipes/cpu_grpo_ktae --set algo.kl.init_coef=0 --set eval.dataset=null --set arithmetic.warmup_steps=5
    --set "arithmetic.directory=$assets" --set "actor.model_name_or_path=$assets/model"
    --set "data.prompt_dataset=$assets/train.jsonl")
export GPUS_PER_NODE=1 CPUS_PER_NODE=8 OBJECT_STORE_BYTES=100000000 HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
submit() { sbatch --parsable --nodes=2 --output="$scratch/slurm-%j.out" "$@"; }
state() { scontrol show job "$1" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p'; }
is() { [ "$(state "$1")" = "$2" ]; }
over() { case $(state "$1") in PENDING | RUNNING | COMPLETING | CONFIGURING) return 1 ;; esac; }
run_of() { realpath "runs/slurm-$1/latest"; }
steps() { grep -c '"kind": "train"' "$(run_of "$1")/metrics.jsonl" 2>/dev/null || echo 0; }
has_steps() { [ "$(steps "$1")" -ge "$2" ]; }
# Processes of a job know its id.
left() { grep -lzx "SLURM_JOB_ID=$1" /proc/[0-9]*/environ 2>/dev/null | grep -v "^/proc/$$/" || true; }
gone() { [ -z "$(left "$1")" ]; }

check_train() {
    local job out
    job=$(submit scripts/train.sbatch "${tiny[@]}" --set data.max_samples=16)
    until_true 400 "the job did not end" over "$job"
    out=$scratch/slurm-$job.out
    is "$job" COMPLETED || fail "training: job is $(state "$job")"
    grep -q 'Ray: 2 nodes with 1 GPUs each' "$out" || fail "training: not on two nodes"
    grep -q '"status": "finished"' "$(run_of "$job")/run.json" || fail "training: run.json does not say finished"
    has_steps "$job" 1 && [ -d "$(run_of "$job")/model" ] || fail "training: the run folder is not complete"
    until_true 60 "training: processes are left: $(left "$job")" gone "$job"
    rm -rf "runs/slurm-$job"
    say "ok: two nodes train a recipe, and nothing is left"
}

check_wrong() {
    local job
    job=$(submit scripts/train.sbatch "${tiny[@]}" --set train.batch_size=100)
    until_true 120 "the job did not end" over "$job"
    is "$job" FAILED || fail "wrong recipe: job is $(state "$job"), expected FAILED"
    tr -s ' \n' ' ' <"$scratch/slurm-$job.out" | grep -q 'no multiple of train.batch_size 100' || fail "wrong recipe: no reason"
    rm -rf "runs/slurm-$job"
    say "ok: a wrong recipe ends FAILED with its reason"

    local taken holder
    taken=$(port)
    python3 -c "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', $taken)); s.listen(); time.sleep(600)" &
    holder=$!
    daemons+=($holder)
    job=$(DASHBOARD_PORT=$taken submit scripts/train.sbatch "${tiny[@]}")
    until_true 120 "the job did not end" over "$job"
    kill $holder
    is "$job" FAILED || fail "port taken: job is $(state "$job"), expected FAILED"
    grep -q "Failed to bind to 127.0.0.1:$taken" "$scratch/slurm-$job.out" || fail "port taken: no reason"
    until_true 60 "port taken: processes are left: $(left "$job")" gone "$job"
    say "ok: where the dashboard's port is taken a job ends FAILED with its reason"
}

check_limit_and_cancel() {
    local job stopped
    # Slurm counts limits in minutes; a busy machine needs two until the first step.
    job=$(submit --time="${LIMIT_MINUTES:-3}" --signal=B:USR1@90 scripts/train.sbatch "${tiny[@]}" \
        --set train.num_episodes=500 --set ckpt.save_steps=100000)
    until_true 500 "the job was not queued again" grep -q 'queued again' "$scratch/slurm-$job.out"
    stopped=$(cat "$(run_of "$job")"/checkpoints/_actor/latest)
    stopped=${stopped#global_step}
    [ "$(steps "$job")" = "$stopped" ] || fail "limit: checkpoint of step $stopped, but $(steps "$job") steps are logged"
    until_true 500 "the job did not go on" has_steps "$job" $((stopped + 1))
    is "$job" RUNNING || fail "limit: job is $(state "$job")"
    [ "$(scontrol show job "$job" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p')" = 1 ] || fail "limit: not restarted once"
    # Every step is there once, in order: it went on at the right step.
    grep '"kind": "train"' "$(run_of "$job")/metrics.jsonl" | sed 's/.*"step": \([0-9]*\).*/\1/' |
        awk '$1 != NR {exit 1}' || fail "limit: steps are missing or repeated"
    say "ok: at its time limit a job wrote a checkpoint after step $stopped, was queued again and went on"

    [ -n "$(left "$job")" ] || fail "cancel: this test does not see the job's processes"
    scancel "$job"
    until_true 120 "the job did not end" over "$job"
    is "$job" CANCELLED || fail "cancel: job is $(state "$job")"
    until_true 90 "cancel: processes are left: $(left "$job")" gone "$job"
    rm -rf "runs/slurm-$job"
    say "ok: scancel leaves no process"
}

check_node_failure() {
    local job before
    job=$(submit scripts/train.sbatch "${tiny[@]}" --set train.num_episodes=500 --set ckpt.save_steps=2)
    until_true 500 "no step was trained" has_steps "$job" 3
    lose_power n2
    # What Slurm does with a node that no longer answers, without the minutes until it notices.
    scontrol update nodename=n2 state=down reason="lost power"
    until_true 120 "the job was not queued again" sh -c "scontrol show job $job | grep -q Restarts=1"
    before=$(cat "$(run_of "$job")"/checkpoints/_actor/latest)
    before=${before#global_step}
    start_node n2
    until_true 500 "the job did not go on" grep -q "Going on after step $before" "$scratch/slurm-$job.out"
    until_true 500 "no step was trained after it" has_steps "$job" $((before + 1))
    grep '"kind": "train"' "$(run_of "$job")/metrics.jsonl" | sed 's/.*"step": \([0-9]*\).*/\1/' |
        awk '$1 != NR {exit 1}' || fail "node failure: steps are missing or repeated"
    scancel "$job"
    until_true 120 "the job did not end" over "$job"
    until_true 90 "node failure: processes are left: $(left "$job")" gone "$job"
    rm -rf "runs/slurm-$job"
    say "ok: after a node lost power the job was queued again and went on after step $before"
}

# Stands in for pyxis and enroot: `srun --container-image` runs its command with the image's own PATH and with INSIDE set,
# and the programs of the image's environment refuse to run anywhere else.
make_container() {
    local program
    mkdir -p "$scratch/bin" "$scratch/image/bin"
    for program in python ray openrlhf-ktae; do
        cat >"$scratch/image/bin/$program" <<PROGRAM
#!/bin/sh
[ -n "\${INSIDE:-}" ] || { echo "$program: not in the container" >&2; exit 127; }
exec "$PWD/.venv/bin/$program" "\$@"
PROGRAM
    done
    cat >"$scratch/bin/srun" <<SRUN
#!/usr/bin/env bash
given=() inside=()
while [ \$# -gt 0 ]; do
    case \$1 in
    --container-image=*) inside=(env PATH=/usr/bin:/bin INSIDE="\${1#*=}") ;;
    --container-*=*) ;;
    --*) given+=("\$1") ;;
    *) break ;;
    esac
    shift
done
exec $(command -v srun) "\${given[@]}" "\${inside[@]}" "\$@"
SRUN
    chmod +x "$scratch"/bin/* "$scratch"/image/bin/*
}

check_container() {
    local job pid command outside='' seen=0
    make_container
    job=$(CONTAINER=image.sqsh VENV=$scratch/image PATH=$scratch/bin:$PATH \
        submit scripts/train.sbatch "${tiny[@]}" --set train.num_episodes=500 --set ckpt.save_steps=100000)
    until_true 400 "the job did not take a step" has_steps "$job" 1
    # Not those that Ray gives a title: it overwrites their environment. They are children of these.
    for pid in $(left "$job" | grep -o '[0-9]*'); do
        command=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) || continue
        case $command in */srun\ * | srun* | *ray::*) continue ;; *raylet* | *gcs_server* | *openrlhf?ktae*) ;; *) continue ;; esac
        seen=$((seen + 1))
        grep -qzx 'INSIDE=image.sqsh' "/proc/$pid/environ" || outside+=" $pid ${command:0:80};"
    done
    [ "$seen" -ge 5 ] && [ -z "$outside" ] || fail "container: of $seen processes these are outside:$outside"
    scancel --batch --signal=USR1 "$job"
    until_true 200 "container: the job was not queued again" grep -q 'queued again' "$scratch/slurm-$job.out"
    [ -s "$(run_of "$job")/checkpoints/_actor/latest" ] || fail "container: no checkpoint"
    scancel "$job"
    until_true 120 "the job did not end" over "$job"
    until_true 60 "container: processes are left: $(left "$job")" gone "$job"
    rm -rf "runs/slurm-$job"
    say "ok: in a container Ray and the driver are both inside; asked to stop, the run wrote a checkpoint"
}

[ $# -gt 0 ] || set -- wrong train container limit_and_cancel node_failure
for check in "$@"; do "check_$check"; done
say "all of it holds: $*"
