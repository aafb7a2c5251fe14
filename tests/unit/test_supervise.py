"""The process below a run: what it gets, and what it leaves; and what watching it costs."""

import subprocess
from pathlib import Path

from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.runs import supervise as module


def supervise_instead(monkeypatch, folder, program, seen):
    """Supervises ``program`` as if it were the launcher; ``seen`` gets the folder of its sockets."""
    started = subprocess.Popen

    def popen(command, **options):
        seen.append(Path(options["env"]["VLLM_RPC_BASE_PATH"]))
        return started([command[0], "-c", program.replace("SOCKETS", str(seen[0]))], **options)

    monkeypatch.setattr(module.subprocess, "Popen", popen)
    return module.supervise(folder, lambda line: None)


def test_sockets_of_killed_engines_go_with_the_run(tmp_path, monkeypatch) -> None:
    leave = "import os, socket; socket.socket(socket.AF_UNIX).bind('SOCKETS/left'); os.kill(os.getpid(), 9)"
    seen: list[Path] = []
    assert supervise_instead(monkeypatch, RunFolder(tmp_path), leave, seen) == -9
    assert not seen[0].exists()


def test_metrics_are_read_when_there_are_new_ones_alone(tmp_path, monkeypatch) -> None:
    reads = []

    class Counting(RunFolder):
        def metrics(self):
            reads.append(1)
            return super().metrics()

    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 1}\n')
    wait = f"import time; time.sleep(0.7); open({str(metrics)!r}, 'a').write('{{}}\\n'); time.sleep(0.7)"
    assert supervise_instead(monkeypatch, Counting(tmp_path), wait, []) == 0
    # At the start twice, after the new line, at the end; not every 0.2 seconds.
    assert len(reads) == 4
