"""The process below a run: what it gets, and what it leaves."""

import subprocess
from pathlib import Path

from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.runs import supervise as module


def test_sockets_of_killed_engines_go_with_the_run(tmp_path, monkeypatch) -> None:
    seen: list[Path] = []
    started = subprocess.Popen

    def popen(command, **options):
        seen.append(Path(options["env"]["VLLM_RPC_BASE_PATH"]))
        leave = (
            f"import os, socket; socket.socket(socket.AF_UNIX).bind({str(seen[0] / 'left')!r}); os.kill(os.getpid(), 9)"
        )
        return started([command[0], "-c", leave], **options)

    monkeypatch.setattr(module.subprocess, "Popen", popen)
    assert module.supervise(RunFolder(tmp_path), lambda line: None) == -9
    assert not seen[0].exists()
