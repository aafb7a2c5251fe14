"""`scripts/train.sbatch` on a real Slurm of two nodes; the checks themselves stand in tests/slurm/run.sh."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1500)]

ON_REQUEST = pytest.mark.skipif(
    "OPENRLHF_KTAE_LONG_TESTS" not in os.environ, reason="minutes more: set OPENRLHF_KTAE_LONG_TESTS=1"
)


@pytest.mark.skipif(os.geteuid() != 0, reason="munge and Slurm's daemons are started as root")
@pytest.mark.skipif(not shutil.which("slurmctld") and not shutil.which("apt-get"), reason="no Slurm, and no apt-get")
@pytest.mark.parametrize(
    "check",
    [
        "wrong",
        "train",
        "container",
        pytest.param("limit_and_cancel", marks=ON_REQUEST),
        pytest.param("node_failure", marks=ON_REQUEST),
    ],
)
def test_train_sbatch_on_slurm(check):
    done = subprocess.run(["bash", "tests/slurm/run.sh", check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"all of it holds: {check}" in done.stdout
