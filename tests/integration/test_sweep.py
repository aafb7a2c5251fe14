"""A sweep of real runs: killed in the middle of the second one, it goes on; nothing of it keeps running.

The servers of its runs' processes are forks of one process.
"""

import subprocess
import sys
import time

import psutil
import pytest
import yaml
from tiny_run import ROOT, TinyRuns, alive, command_line, wait_until

from openrlhf_ktae.processes import session_members
from openrlhf_ktae.sweep.folder import SweepFolder
from openrlhf_ktae.sweep.plan import planned_runs, read_sweep

pytestmark = pytest.mark.ray


def test_a_killed_sweep_ends_its_run_and_goes_on_where_it_was(tmp_path):
    runs = TinyRuns(tmp_path, steps=2)
    line, _ = runs.command("unused", "ckpt.save_steps=-1", f"eval.dataset={tmp_path / 'evaluation.jsonl'}")
    options = dict(part.partition("=")[::2] for part in line[line.index("--set") + 1 :: 2])
    options = {name: yaml.safe_load(value) for name, value in options.items() if name != "run.output_dir"}
    file = tmp_path / "sweep.yaml"
    arms = {"grpo": {"advantage.terms": []}, "ktae": {"advantage.terms": ["ktae"]}}
    content = {"recipe": str(ROOT / "recipes" / "quickstart"), "seeds": [1], "arms": arms, "baseline": "grpo"}
    file.write_text(yaml.safe_dump(content | {"options": options}))
    folder = SweepFolder(tmp_path / "sweep")
    command = [sys.executable, "-m", "openrlhf_ktae.cli", "sweep", str(file), "--output", str(folder.path)]
    grpo, ktae = planned_runs(read_sweep(file), tmp_path)

    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: folder.state(grpo).status == "finished", 300, first)
    wait_until(lambda: folder.attempts(ktae) and folder.attempts(ktae)[0].log_file.exists(), 120, first)
    wait_until(lambda: "RolloutActor" in folder.attempts(ktae)[0].log_file.read_text(), 120, first)
    trainers = psutil.Process(first.pid).children(recursive=True)
    servers = [
        process for process in trainers if "python -m openrlhf_ktae.training.fork_server" in command_line(process)
    ]
    assert len([server for server in servers if server.ppid() == first.pid]) == 1
    assert {server.ppid() for server in servers} <= {first.pid, *(server.pid for server in servers)}
    sessions = [member for trainer in trainers for member in session_members(trainer.pid)]
    first.kill()
    deadline = time.monotonic() + 60
    while left := alive([*trainers, *sessions]):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)

    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [len(folder.attempts(run)) for run in (grpo, ktae)] == [1, 2]
    assert folder.attempts(ktae)[0].read()["status"] == "interrupted"
    assert "2 of 2 runs finished" in again.stdout and folder.summary_csv.read_text().count("finished") == 2
