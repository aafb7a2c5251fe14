"""The disk of a real run fills up: what was whole stays whole, the reason is one sentence, and it goes on with room."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from tiny_run import ROOT, TinyRuns, steps

from openrlhf_ktae.checkpoints import checkpoint_folder, list_checkpoints

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted as root"),
]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with room for one checkpoint (about 11 MB) and a half."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_ends_a_run_in_one_sentence_and_it_goes_on_with_room(tmp_path, small_disk):
    runs = TinyRuns(tmp_path, steps=3)
    line, folder = runs.command("full", f"run.output_dir={small_disk}")
    folder.path = small_disk / "latest"
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)
    said = " ".join((done.stdout + done.stderr).split())
    run = json.loads((small_disk / "latest" / "run.json").read_text())
    assert done.returncode == 1 and "Traceback" not in said
    assert run["status"] == "failed" and run["restarts"] == []
    assert (
        f"the disk is full: {(small_disk / 'latest').resolve()}/checkpoints/_actor (a checkpoint needs" in run["reason"]
    )
    assert "bytes" in run["reason"] and "make room, then resume" in said
    folder = type(folder)((small_disk / "latest").resolve())
    kept = list_checkpoints(checkpoint_folder(folder))
    assert [checkpoint.problem() for checkpoint in kept] == [None]
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    resume = [sys.executable, "-m", "openrlhf_ktae.cli", "train", "recipes/quickstart", "--resume", str(folder.path)]
    done = subprocess.run(resume, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert steps(folder) == [1, 2, 3]
    shutil.rmtree(folder.path)
