"""PyTorch's OpenMP threads soon sleep while they wait, in the processes that compute on several cores."""

import os
import subprocess
import sys

import pytest

from openrlhf_ktae.training.drive import worker_environment

WARM_UP = """
from openrlhf_ktae.runs.prepare import make_assets
from openrlhf_ktae.tasks.arithmetic import Task

options = {"directory": "made", "train_problems": 8, "evaluation_problems": 8, "warmup_steps": 0}
make_assets(Task(Task.Options(**options)), "arithmetic")
"""


@pytest.mark.parametrize(
    ("code", "environment"),
    [(WARM_UP, {}), ("import torch", worker_environment("cpu", {}))],
    ids=["warm-up", "training"],
)
def test_waiting_threads_soon_sleep(code, environment, tmp_path):
    environment = os.environ | environment | {"OMP_DISPLAY_ENV": "verbose"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "GOMP_SPINCOUNT = '3000'" in done.stderr
