"""What a run on this machine shows to others: nothing that it was told in confidence, and no port.

One real run, with trackers and checkpoints, in an environment full of secrets.
"""

import os
import stat
import subprocess
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from tiny_run import ROOT, TinyRuns, of_run, steps, wait_until

pytestmark = pytest.mark.ray

SECRETS = {
    name: f"5ec4e7{number:02d}" * 5
    for number, name in enumerate(
        ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "GITHUB_TOKEN", "MY_REWARD_PASSWORD")
    )
}
NETRC = "5ec4e7aa" * 5


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two steps, and the sockets on which its processes listened after the first."""
    runs = TinyRuns(tmp_path_factory.mktemp("tiny"), steps=2)
    home = runs.folder / "home"
    home.mkdir()
    (home / ".netrc").write_text(f"machine api.wandb.ai login user password {NETRC}\n")
    (home / ".netrc").chmod(0o600)
    line, folder = runs.command(
        "private", "run.wandb=offline", "run.tensorboard=true", "run.rollout_log_steps=1", "run.tracked_rollouts=2"
    )
    environment = os.environ | SECRETS | {"HOME": str(home), "NETRC": str(home / ".netrc")}
    process = subprocess.Popen(
        line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, umask=0o077
    )
    wait_until(lambda: steps(folder), 400, process)
    ours = psutil.Process(process.pid)
    listening = [
        f"{connection.laddr.ip} {connection.laddr.port} {' '.join(member.cmdline())[:80]}"
        for member in {*of_run(process), ours, *ours.children(recursive=True)}
        for connection in member.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return folder.path.resolve(), output, listening


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def content(path: Path) -> bytes:
    return repr(pq.read_table(path).to_pylist()).encode() if path.suffix == ".parquet" else path.read_bytes()


def test_no_secret_stands_in_a_file_or_the_output_of_a_run(run):
    folder, output, _ = run
    names = {path.name for path in files(folder)}
    assert {"run.json", "train.log", "metrics.jsonl", "summary.json", "manifest.json"} <= names
    assert any(name.endswith(".wandb") for name in names) and any("tfevents" in name for name in names)
    for name, secret in (SECRETS | {".netrc": NETRC}).items():
        assert [str(path) for path in files(folder) if secret.encode() in content(path)] == [], name
        assert secret not in output, name


def test_nothing_listens_beyond_the_loopback_interface(run):
    listening = run[2]
    assert len(listening) > 3  # Ray's and the process groups'
    assert [where for where in listening if not where.startswith(("127.", "::ffff:127.", "::1 "))] == []


def test_files_of_a_run_have_the_rights_that_the_umask_leaves(run):
    folder = run[0]
    open_to_others = [
        str(path) for path in [folder, *folder.rglob("*")] if stat.S_IMODE(path.lstat().st_mode) & 0o077
        and not path.is_symlink()
    ]  # fmt: skip
    assert open_to_others == []


@pytest.mark.parametrize("option", ["logger.wandb.key={}", "reward.remote_url=http://judge:{}@localhost:9/score"])
def test_a_secret_among_the_options_is_refused_before_anything_is_written(tmp_path, option):
    runs = TinyRuns(tmp_path, steps=1)
    line, folder = runs.command("refused", option.format(NETRC))
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and NETRC not in done.stdout + done.stderr
    assert not folder.path.exists()
