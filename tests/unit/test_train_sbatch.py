"""What scripts/train.sbatch asks of Slurm, with stand-ins for its programs; a real one: integration/test_slurm.py."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SRUN = """echo "srun $*" >> asked
while [ $# -gt 0 ]; do case $1 in --*) shift ;; *) break ;; esac; done
case $1 in
    sh) echo 10.0.0.1 ;;
    ray) exec sleep 60 ;;
    *) exec "$@" ;;
esac"""
PYTHON = """case "$*" in
    *has_checkpoint*) exit 1 ;;
    *token_hex*) echo secret ;;
    *) cat >/dev/null; echo 2 ;;
esac"""

DRIVER = """echo "driver $*" >> asked
case "$*" in *dry-run*) exit ;; esac
trap '' USR1
[ -z "$SLOW" ] || exec sleep 60"""


@pytest.fixture
def job(tmp_path):
    """A submitted job; returns a function that starts it with variables of its own."""
    programs = {
        "srun": SRUN,
        "scontrol": 'echo "scontrol $*" >> asked; [ "$1" != show ] || printf "n1\\nn2\\n"',
        "python": PYTHON,
        "openrlhf-ktae": DRIVER,
    }
    for name, text in programs.items():
        path = tmp_path / "venv" / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    shutil.copy(ROOT / "scripts" / "train.sbatch", tmp_path / "train.sbatch")
    slurm = {"JOB_ID": "17", "SUBMIT_DIR": str(tmp_path), "JOB_NODELIST": "n[1-2]", "CPUS_ON_NODE": "64"}
    environment = os.environ | {f"SLURM_{name}": value for name, value in slurm.items()} | {"VENV": "venv"}

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

    start.asked = lambda: (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
    return start


def test_every_step_asks_for_the_gpus_and_memory_of_its_node(job):
    process = job(SLURM_GPUS_ON_NODE="8")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    rays = [line for line in job.asked().splitlines() if "ray start" in line]
    assert len(rays) == 2
    assert all("--gpus-per-node=8" in line and "--mem=0" in line and "--num-gpus=8" in line for line in rays)
    assert "driver train recipes/x" in job.asked() and "openrlhf-ktae" not in "".join(rays)
    header = (ROOT / "scripts" / "train.sbatch").read_text()
    assert "#SBATCH --mem=0\n" in header and "#SBATCH --signal=B:USR1@1800\n" in header


def test_in_a_container_ray_and_the_driver_are_both_inside(job):
    process = job(SLURM_GPUS_ON_NODE="8", CONTAINER="image.sqsh")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    inside = [line for line in job.asked().splitlines() if "--container-image=image.sqsh" in line]
    assert sum("ray start" in line for line in inside) == 2
    assert sum(bool(re.search(r"openrlhf-ktae train", line)) for line in inside) == 2  # the dry run and the run
    assert len([line for line in job.asked().splitlines() if line.startswith("driver")]) == 2


@pytest.mark.parametrize("near_limit", [True, False])
def test_a_job_that_its_limit_ends_is_queued_again_and_a_cancelled_one_is_not(job, near_limit):
    process = job(SLURM_GPUS_ON_NODE="8", SLOW="1", SLURM_JOB_END_TIME=str(int(time.time())))
    deadline = time.monotonic() + 30
    while job.asked().count("driver") < 2:  # the dry run, then the run
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.3)
    if near_limit:
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert ("scontrol requeue 17" in job.asked()) == near_limit
    assert ("queued again" in output) == near_limit
