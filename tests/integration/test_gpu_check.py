"""`openrlhf-ktae doctor --gpu --device cpu`: what can run without a GPU passes, the rest says why it was skipped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_ktae.runs.gpu_check import CHECKS

ROOT = Path(__file__).resolve().parents[2]
NOT_HERE = "needs a GPU"

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]


def check(output: Path, *names: str) -> dict[str, tuple[str, str]]:
    """Runs the checks whose name starts with one of ``names``; verdict and reason by name."""
    command = [sys.executable, "-m", "openrlhf_ktae.cli", "doctor", "--gpu", "--device", "cpu", "--output", str(output)]
    command += [part for name in names for part in ("--only", name)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1100)
    report = json.loads(output.read_text())
    assert done.returncode == 0, report["checks"]
    assert report["versions"]["openrlhf"] == "0.11.2" and report["device"] == "cpu"
    return {result["name"]: (result["verdict"], result["reason"]) for result in report["checks"]}


def test_training_merging_and_evaluating_pass_and_what_needs_a_gpu_says_so(tmp_path):
    found = check(tmp_path / "check.json", "kernel", "train, one GPU", "train, separate", "merge", "evaluate")
    assert {name for name, (verdict, _) in found.items() if verdict == "passed"} == {
        "kernel", "train, separate engines", "merge, separate engines", "evaluate, separate engines",
    }  # fmt: skip
    assert {reason for verdict, reason in found.values() if verdict == "skipped"} == {NOT_HERE}
    assert found["train, one GPU by turns, ZeRO-2"] == ("skipped", NOT_HERE)
    assert "largest difference from the numba kernel" in found["kernel"][1]


@pytest.mark.skipif("OPENRLHF_KTAE_LONG_TESTS" not in os.environ, reason="minutes more: set OPENRLHF_KTAE_LONG_TESTS=1")
def test_every_check_that_a_cpu_can_do_passes(tmp_path):
    found = check(tmp_path / "check.json")
    assert {name: verdict for name, (verdict, _) in found.items()} == {
        one.name: "passed" if one.on_cpu else "skipped" for one in CHECKS
    }
