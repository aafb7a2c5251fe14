"""What scripts/train.sbatch asks of Slurm, with stand-ins for its programs; a real one: integration/test_slurm.py."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SRUN = """echo "srun $*" >> asked
while [ $# -gt 0 ]; do
    case $1 in --container-image=*) export INSIDE=${1#*=} ;; --*) ;; *) break ;; esac
    shift
done
case "$*" in
    *hostname*) echo 10.0.0.1 ;;
    *"ray start"*) echo "groups=$RAY_process_group_cleanup_enabled" >> asked; exec sleep 60 ;;
    *) exec "$@" ;;
esac"""

DRIVER = """echo "driver inside=$INSIDE $*" >> asked
case "$*" in *dry-run*) exit ;; esac
[ "$LASTS" != "until stopped" ] || { until [ -e runs/slurm-17/latest/stop ]; do sleep 0.1; done; exit 3; }
[ -z "$LASTS" ] || exec sleep 60"""
PROGRAMS = {
    "bin/srun": SRUN,
    "bin/scontrol": 'echo "scontrol $*" >> asked; [ "$1" != show ] || printf "n1\\nn2\\n"',
    "bin/python3": "cat >/dev/null; grep -c ^groups= asked; true",  # how many nodes are in
    "venv/bin/python": 'echo "python inside=$INSIDE" >> asked; echo True',  # is there a checkpoint
    "venv/bin/openrlhf-ktae": DRIVER,
}


@pytest.fixture
def job(tmp_path):
    """A submitted job; returns a function that starts it with variables of its own."""
    for name, text in PROGRAMS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    shutil.copy(ROOT / "scripts" / "train.sbatch", tmp_path / "train.sbatch")
    slurm = {"JOB_ID": "17", "SUBMIT_DIR": str(tmp_path), "JOB_NODELIST": "n[1-2]", "CPUS_ON_NODE": "64"}
    environment = (
        os.environ
        | {f"SLURM_{name}": value for name, value in slurm.items()}
        | {
            "VENV": "venv",
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        }
    )

    def start(**variables: str) -> subprocess.Popen:
        command = ["bash", "train.sbatch", "recipes/x"]
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    start.runs = tmp_path / "runs" / "slurm-17"
    start.asked = lambda: (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
    return start


def test_every_step_asks_for_the_gpus_and_memory_of_its_node(job):
    process = job(SLURM_GPUS_ON_NODE="8")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    rays = [line for line in job.asked().splitlines() if "ray start" in line]
    assert len(rays) == 2
    assert all("--gpus-per-node=8" in line and "--mem=0" in line and "--num-gpus=8" in line for line in rays)
    assert "driver inside= train recipes/x" in job.asked() and "openrlhf-ktae" not in "".join(rays)


def test_an_engine_ends_with_the_actor_that_started_it(job):
    process = job(SLURM_GPUS_ON_NODE="8")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert job.asked().count("groups=1\n") == 2
    header = (ROOT / "scripts" / "train.sbatch").read_text()
    assert "#SBATCH --mem=0\n" in header and "#SBATCH --signal=B:USR1@1800\n" in header


def test_in_a_container_ray_and_the_driver_are_both_inside(job):
    (job.runs / "latest").mkdir(parents=True)
    process = job(SLURM_GPUS_ON_NODE="8", CONTAINER="image.sqsh")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    asked = job.asked().splitlines()
    inside = [line for line in asked if "--container-image=image.sqsh" in line]
    assert sum("ray start" in line for line in inside) == 2
    # What the environment of the image runs: is there a checkpoint, the dry run, the run.
    programs = [line for line in asked if line.startswith(("driver", "python"))]
    assert len(programs) == 3 and all("inside=image.sqsh" in line for line in programs)
    assert all(f"--resume {job.runs}/latest" in line for line in programs[1:])


@pytest.mark.parametrize("near_limit", [True, False])
def test_a_job_that_its_limit_ends_is_queued_again_and_a_cancelled_one_is_not(job, near_limit):
    process = job(SLURM_GPUS_ON_NODE="8", LASTS="for long", SLURM_JOB_END_TIME=str(int(time.time())))
    deadline = time.monotonic() + 30
    while job.asked().count("driver") < 2:  # the dry run, then the run
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (job.runs / "latest").mkdir(parents=True)
    time.sleep(0.3)
    if near_limit:
        process.send_signal(signal.SIGUSR1)
        while not (job.runs / "latest" / "stop").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert ("scontrol requeue 17" in job.asked()) == near_limit
    assert ("queued again" in output) == near_limit


def test_asked_to_stop_by_the_run_folder_a_job_is_queued_again(job):
    (job.runs / "latest").mkdir(parents=True)
    process = job(SLURM_GPUS_ON_NODE="8", LASTS="until stopped")
    deadline = time.monotonic() + 30
    while job.asked().count("driver") < 2:  # the dry run, then the run
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "scontrol requeue 17" in job.asked() and "Ray has ended on all nodes" in output
