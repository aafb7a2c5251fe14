"""A run killed while it writes its rollouts: what was complete stays readable, and a later run writes on there."""

import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq

from openrlhf_ktae.report.run_folder import _find_rollouts
from openrlhf_ktae.run_folder import VOCABULARY_FILE, read_vocabulary

WRITER = """
import dataclasses, sys
from pathlib import Path
import torch
from openrlhf_parts import arguments, experiences, maker
from openrlhf_ktae.training.rollout_log import RolloutLog

ours, scored = maker(arguments()), experiences(400, 100, shuffle=True)
ours.compute_advantages_and_returns(scored)
log = RolloutLog(Path(sys.argv[1]), lambda token_id: f" w{token_id}")
first, count = int(sys.argv[2]), int(sys.argv[3])
for step in range(first, first + count):
    log.add(dataclasses.replace(ours.batch, step=step), ours.outcome, ours.terms)
log.finish()
"""


def start(folder, first: int, count: int) -> subprocess.Popen:
    path = os.pathsep.join(sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, folder, str(first), str(count)], env={**os.environ, "PYTHONPATH": path}
    )


def half_written(folder) -> bool:
    return any(file.stat().st_size for file in folder.glob(".step_*.parquet.*"))


def test_what_was_complete_before_a_kill_stays_readable(tmp_path):
    writer = start(tmp_path, 1, 10**6)
    try:
        while not ((tmp_path / "step_00003_tokens.parquet").exists() and half_written(tmp_path)):
            assert writer.poll() is None
            time.sleep(0.001)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert half_written(tmp_path), "the kill came between two files"
    missing: list[str] = []
    rollouts, tokens = _find_rollouts(tmp_path, missing)
    assert not missing and len(rollouts) >= 3 and set(tokens) <= set(rollouts)
    assert sorted(rollouts) == list(range(1, len(rollouts) + 1))
    known = read_vocabulary(tmp_path / VOCABULARY_FILE)
    for step, file in rollouts.items():
        table = pq.read_table(file)
        assert table.num_rows == 1600 and set(table["step"].to_pylist()) == {step}
        assert {token for row in table["token_ids"].to_pylist() for token in row} <= set(known)
    # A later run writes on beside what the kill left.
    last = max(rollouts) + 1
    assert start(tmp_path, last, 1).wait(timeout=120) == 0
    assert pq.read_table(tmp_path / f"step_{last:05d}.parquet").num_rows == 1600
