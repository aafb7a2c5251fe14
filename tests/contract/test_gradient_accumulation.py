"""Dynamic batches: an update is the sum of all its micro batches' gradients, under every stage of ZeRO."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def norms() -> dict[tuple[str, int], tuple[float, float, float]]:
    """Gradient norm of an update of three micro batches, what it is for all of them, and for the last alone."""
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}"}
    command = [sys.executable, "-m", "gradient_sums"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("norms ")]
    return {(name, int(stage)): (float(a), float(b), float(c)) for name, stage, a, b, c in lines}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_an_update_is_the_sum_of_its_micro_batches(norms, stage):
    step, everything, last = norms["Strategy", stage]
    assert abs(step - everything) < 0.02 * everything  # bfloat16
    assert abs(last - everything) > 0.2 * everything


def test_upstream_steps_with_the_last_micro_batch_alone(norms):
    """The reason for `training.strategy`; it can go when this fails."""
    step, everything, last = norms["DeepspeedStrategy", 2]
    assert abs(step - last) < 0.02 * last and abs(step - everything) > 0.2 * everything
